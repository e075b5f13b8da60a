"""Time to import and size on disk, beside NumPy and PyTorch: python tests/bench/imports.py

Each import in a fresh interpreter, in turn; medians, and ratios to them.
"""

import functools
import importlib.util
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from timing import measure


def importing(name):
    """A function that imports a package in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", f"import {name}"], check=True)


def closure(name):
    """The distributions that installing one brings, extras left out."""
    found, todo = set(), [name]
    while todo:
        name = todo.pop().lower()
        if name not in found:
            found.add(name)
            needs = [need for need in metadata.requires(name) or [] if "extra ==" not in need]
            todo += [re.split(r"[^\w.-]", need)[0] for need in needs if "platform" not in need]
    return found


@functools.cache
def sizes(name):
    """Bytes on disk of a distribution, with its bytecode; in place, of flambeau's own folders."""
    files = [Path(file.locate()) for file in metadata.files(name) or []]
    if name == "flambeau" and len(files) < 50:
        root = Path(importlib.util.find_spec("flambeau").origin).parent
        files = [
            f for folder in ("nn", "nngraph", "kernels", "zoo") for f in (root / folder).rglob("*")
        ]
    return sum(file.stat().st_size for file in files if file.is_file())


def main():
    """Print the table."""
    names = ["numpy", "flambeau", "torch"]
    times = measure({name: importing(name) for name in names}, seconds=30, rounds=11)
    for name in names:
        print(f"import {name:10} {times[name].median * 1e3:7.0f} ms, interpreter included")
    for name in ("numpy", "torch"):
        print(f"flambeau / {name:6} {times['flambeau'].median / times[name].median:.3f}")
    needed = closure("flambeau")
    for name in sorted(needed, key=sizes, reverse=True):
        print(f"{name:17} {sizes(name) / 1e6:6.1f} MB")
    print(f"{'together':17} {sum(map(sizes, needed)) / 1e6:6.1f} MB")


if __name__ == "__main__":
    main()
