"""Time to import and size on disk, beside NumPy and PyTorch: python tests/bench/imports.py

Each import in a fresh interpreter, in turn; medians, and ratios to them.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

from peers import medians


def importing(name):
    """A function that imports a package in a fresh interpreter."""
    return lambda: subprocess.run([sys.executable, "-c", f"import {name}"], check=True)


def main():
    """Print the table."""
    names = ["pass", "numpy", "flambeau", "torch"]
    functions = [lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)]
    functions += [importing(name) for name in names[1:]]
    times = dict(zip(names, medians(*functions, runs=11, seconds=90), strict=True))
    for name in names[1:]:
        print(f"import {name:10} {times[name] * 1e3:7.0f} ms, interpreter included")
    print(f"flambeau / numpy  {times['flambeau'] / times['numpy']:.2f}")
    print(f"flambeau / torch  {times['flambeau'] / times['torch']:.3f}")
    root = Path(importlib.util.find_spec("flambeau").origin).parent
    folders = [root / name for name in ("nn", "nngraph", "kernels", "zoo")]
    files = [f for folder in folders for f in folder.rglob("*") if f.is_file()]
    size = sum(f.stat().st_size for f in files if f.suffix not in (".pyc",))
    print(f"the package       {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
