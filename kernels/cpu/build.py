"""The recipe of the C extension `flambeau.kernels.cpu._native` (cffi, API mode).

Every `<family>.c` is compiled for each element type and each instruction set; functions marked
KERNEL(name) are declared to Python under name_<real>_<isa>. `native.py` picks when it loads.
Beside each stands a function that takes its arguments from numbers in memory: see replay.py.
"""

import os
import platform
import re
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
GENERATED = HERE.parents[1] / "build" / "native"

# instruction set: (bytes of a vector register, GCC's target attribute or None)
BASE = {"base": (16, None)}
# prfchw fetches what will be written without asking other processors twice; those older than it
# that have AVX2 ignore it
AVX2 = "avx2,fma,prfchw"
X86 = {"avx2": (32, AVX2), "avx512": (64, f"{AVX2},avx512f,avx512vl,avx512bw,avx512dq")}
ISAS = BASE | (X86 if platform.machine() in ("x86_64", "AMD64") else {})
if os.environ.get("FLAMBEAU_ISAS"):  # such as "avx2 base": only these, for a quick build
    ISAS = {name: ISAS[name] for name in os.environ["FLAMBEAU_ISAS"].split()}

# families that float64 does not take: see conv_algorithm.chosen
FLOAT_ONLY = {
    *("conv_last", "conv_weight", "depthwise_last", "depthwise_last_backward"),
    *("linear_compact", "rings", "winograd", "winograd_weight"),
}

PROTOTYPE = re.compile(r"^(\w+) KERNEL\((\w+)\)\(([^)]*)\)\s*\{", re.MULTILINE)

TYPES = """
typedef long long i64;
typedef void (*replayer)(const i64 *arguments);
typedef struct {
  replayer run;
  const i64 *arguments;
} step;
"""

PLAIN = """
int threads(void);
void set_threads(int n);
void adopt_threads(void);
char *memory_allocate(size_t size);
void memory_release(char *start);
void memory_trim(void);
void memory_stats(i64 *figures);
int supports_avx2(void);
int supports_avx512(void);
void replay(const step *steps, i64 count);
"""

PLAIN_SOURCE = """
#include <math.h>
void replay(const step *steps, i64 count) {
  for (i64 i = 0; i < count; i++) steps[i].run(steps[i].arguments);
}
#include "blocks.h"
#include "threads.h"
#if defined(__x86_64__)
int supports_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
int supports_avx512(void) {
  return supports_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
      && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#else
int supports_avx2(void) { return 0; }
int supports_avx512(void) { return 0; }
#endif
"""


def sources(real):
    """The families' C files for an element type; gemm.c first, since others build on it."""
    found = [p for p in HERE.glob("*.c") if real == "float" or p.stem not in FLOAT_ONLY]
    return sorted(found, key=lambda p: (p.stem != "gemm", p.stem))


def prototypes(real, isa):
    """The C declarations of all kernels for one element type and instruction set."""
    found = []
    for path in sources(real):
        for result, name, arguments in PROTOTYPE.findall(path.read_text("utf-8")):
            arguments = re.sub(r"\s+", " ", re.sub(r"\breal\b", real, arguments))
            found.append(f"{result} {name}_{real}_{isa}({arguments});")
    found.append(f"replayer replayer_{real}_{isa}(const char *name);")
    return "\n".join(found)


def replayers(real):
    """C that finds, by a kernel's name, the function that calls it with numbers in memory."""
    lines, names = [], []
    for path in sources(real):
        for result, name, parameters in PROTOTYPE.findall(path.read_text("utf-8")):
            if result == "void":
                passed = (argument(i, p) for i, p in enumerate(parameters.split(",")))
                call = f"KERNEL({name})({', '.join(passed)});"
                lines.append(f"static void replay_{name}(const i64 *a) {{ {call} }}")
                names.append(f'  if (!strcmp(name, "{name}")) return replay_{name};')
    head = "replayer KERNEL(replayer)(const char *name) {"
    return "\n".join([*lines, head, *names, "  return NULL;", "}"])


def argument(i, parameter):
    """Number i as the argument for a parameter."""
    if "*" in parameter:
        return f"(void *)(uintptr_t)a[{i}]"
    return f"number_of(a[{i}])" if "double" in parameter else f"a[{i}]"


def variant(real, isa):
    """Write the translation unit of one element type and instruction set; its path."""
    width, target = ISAS[isa]
    lines = [f"#define real {real}", f"#define ISA {isa}", f"#define VECTOR_BYTES {width}"]
    lines += [f"#define REAL_IS_{real.upper()} 1", f"#define ISA_IS_{isa.upper()} 1"]
    lines += [f'#pragma GCC target("{target}")'] if target else []
    lines += ['#include "kernel.h"'] + [f'#include "{path.name}"' for path in sources(real)]
    lines += [TYPES, '#include "replay.h"', replayers(real)]
    text = "\n".join(lines) + "\n"
    path = GENERATED / f"{real}_{isa}.c"
    GENERATED.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text("utf-8") != text:
        path.write_text(text, "utf-8")
    return os.path.relpath(path)


FLAGS = "-O3 -g0".split()
if os.environ.get("FLAMBEAU_SANITIZE"):  # `make sanitize`: stops at a bad access or undefined step
    FLAGS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all".split()

VARIANTS = [(real, isa) for real in ("float", "double") for isa in ISAS]
DECLARATIONS = "\n".join(prototypes(*pair) for pair in VARIANTS)

ffi = FFI()
ffi.cdef(TYPES + PLAIN + DECLARATIONS)
ffi.set_source(
    "flambeau.kernels.cpu._native",
    TYPES + PLAIN_SOURCE + DECLARATIONS,
    sources=[variant(*pair) for pair in VARIANTS],
    include_dirs=[str(HERE)],
    depends=[str(path) for path in [*HERE.glob("*.c"), *HERE.glob("*.h")]],
    extra_compile_args=[*"-std=gnu11 -fopenmp -fno-math-errno -fno-trapping-math".split(), *FLAGS],
    extra_link_args=["-fopenmp", *(f for f in FLAGS if f.startswith("-fsanitize"))],
    optional=True,  # without a compiler the package installs all the same and says so when used
)
