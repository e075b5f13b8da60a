"""The .cu files: where they are, which kernels they hold, and their compiled forms on disk.

Whatever is compiled is kept under a name made of the hash of all that went in, so an edited
source is compiled anew and two processes that compile at once do no harm.
"""

import functools
import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

ARCHITECTURES = "sm_75", "sm_90", "sm_100"  # what `check` compiles for

_KERNEL = re.compile(r"^KERNEL(?:_OF\((\d+), \d+\))?\s+(\w+)\s*\(([^)]*)\)", re.MULTILINE)
_PARAMETER = re.compile(
    r"(?:const\s+)?(struct\s+\w+|void|real|int|i64|float|double)\s*(\*?)\s*(\w+)"
)


def folder():
    """The folder of the .cu files: this one, or $FLAMBEAU_CUDA_SOURCE."""
    return Path(os.environ.get("FLAMBEAU_CUDA_SOURCE") or Path(__file__).parent)


def path(family):
    """The file of a family; a family may also be the path of any .cu file, one of yours."""
    return Path(family) if str(family).endswith(".cu") else folder() / f"{family}.cu"


def families():
    """The names of all families that have a .cu file.

    >>> "activation" in families()
    True
    """
    return sorted(path.stem for path in folder().glob("*.cu"))


@functools.cache
def kernels(family):
    """The kernels of a family: {name: ((parameter, kind), ...)}, kind as "real*" or "i64".

    >>> kernels("activation")["relu"]
    (('x', 'real*'), ('y', 'real*'), ('n', 'i64'))
    """
    found = {}
    for _, name, parameters in _KERNEL.findall(path(family).read_text()):
        found[name] = tuple(_parameter(family, name, text) for text in parameters.split(","))
    return found


@functools.cache
def threads(family):
    """The threads that a block must have, of the kernels that say so: {name: threads}.

    >>> threads("product")["product_64x64"]
    64
    """
    found = _KERNEL.findall(path(family).read_text())
    return {name: int(count) for count, name, _ in found if count}


def record(family, structure, **numbers):
    """The bytes of a struct of i64 of a family's source, whose fields the numbers are."""
    names = _fields(family, structure)
    if set(numbers) != set(names):
        raise TypeError(
            f"{path(family).name}: struct {structure} has the fields {', '.join(names)} — got "
            f"{', '.join(numbers)}"
        )
    return struct.pack(f"{len(names)}q", *(numbers[name] for name in names))


@functools.cache
def _fields(family, structure):
    text = re.search(rf"^struct {structure} {{([^}}]*)}};", path(family).read_text(), re.MULTILINE)
    return re.findall(r"\w+", re.sub(r"\bi64\b", "", text[1]))


def _parameter(family, name, text):
    match = _PARAMETER.fullmatch(" ".join(text.split()))
    plain = match and match[1] in ("void", "int", "float", "double")
    if not match or bool(match[2]) < plain or (match[2] and match[1].startswith("struct")):
        raise SyntaxError(
            f"{path(family).name}: kernel {name}: a parameter must be a pointer to real, int, i64, "
            f"float, double or void, or an i64, a real or a struct — got {text.strip()!r}"
        )
    return match[3], match[1] + match[2]


def cache():
    """The folder of compiled kernels: $FLAMBEAU_CACHE, or flambeau/ in the user's cache."""
    base = os.environ.get("FLAMBEAU_CACHE")
    if not base:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flambeau"
    return Path(base) / "kernels"


def host_library(family, dtype):
    """The path of a family's shared library for host fibres, compiled if it is not there."""
    compiler = os.environ.get("CXX") or "g++"
    command = [*compiler.split(), "-O1", "-g", "-shared", "-fPIC", "-std=c++17"]
    command += ["-Wall", "-Wextra", "-x", "c++", "-DFLAMBEAU_HOST", f"-Dreal={_real(dtype)}"]
    return _built(family, command, ".so", _entry_points(family))


def cubin(family, dtype, architecture, *options):
    """The path of a family's machine code for a GPU, compiled if it is not there."""
    command = [os.environ.get("NVCC") or "nvcc", "-cubin", f"-arch={architecture}", "-O3"]
    command += [f"-Dreal={_real(dtype)}", *options]
    return _built(family, command, ".cubin", "")


def _real(dtype):
    return {4: "float", 8: "double"}[dtype.itemsize]


def _entry_points(family):
    """One C function a kernel, taking an array of pointers to the arguments."""
    lines = []
    for name, parameters in kernels(family).items():
        values = []
        for i, (_, kind) in enumerate(parameters):
            # A const pointer parameter takes a plain pointer as well.
            values.append(f"*({kind.replace('*', ' *')} *)a[{i}]")
        lines.append(
            f"static void call_{name}(void **a) {{ {name}({', '.join(values)}); }}\n"
            f'extern "C" const char *launch_{name}(unsigned blocks, unsigned threads, void **a) '
            f"{{ return flambeau::launch(call_{name}, blocks, threads, a); }}"
        )
    return "\n".join(lines) + "\n"


def _built(family, command, suffix, tail):
    """The cached output of a compiler's command for a family's source and some more code."""
    source = path(family)
    digest = hashlib.sha256("\0".join([*command, tail]).encode())
    for file in (source, *sorted(folder().glob("*.h"))):
        digest.update(file.read_bytes())
    target = cache() / f"{source.stem}-{digest.hexdigest()[:32]}{suffix}"
    if not target.exists():
        _compile(source, command, tail, target)
    return target


def _compile(source, command, tail, target):
    """Compile into a temporary folder beside the target, then rename: all or nothing."""
    if not shutil.which(command[0]):
        raise RuntimeError(
            f"{command[0]} must be installed to compile {source.name} — it was not found. "
            + ("Install CUDA's nvcc, or set NVCC." if tail == "" else "Install g++, or set CXX.")
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        unit = Path(temporary) / source.name
        unit.write_text(f'#include "{source.resolve()}"\n{tail}')
        output = Path(temporary) / target.name
        command = [*command, "-I", str(folder().resolve()), "-o", str(output), str(unit)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(
                f"{source} does not compile:\n{' '.join(command)}\n{result.stderr}{result.stdout}"
            )
        os.replace(output, target)
