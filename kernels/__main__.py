"""python -m flambeau.kernels build|check: compile the CUDA kernels ahead of their first use."""

import argparse
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from flambeau.kernels.cuda import source


def build(architectures, dtypes):
    """Compile every family for each architecture and dtype, and for the host, into the cache."""
    work = [
        (source.host_library, family, dtype) for family in source.families() for dtype in dtypes
    ]
    work += [
        (source.cubin, family, dtype, architecture)
        for architecture in architectures
        for family in source.families()
        for dtype in dtypes
    ]
    return _run(work)


def check(architectures, dtypes):
    """Compile every family with nvcc's warnings as errors."""
    return _run(
        [
            (source.cubin, family, dtype, architecture, "-Werror", "all-warnings")
            for architecture in architectures
            for family in source.families()
            for dtype in dtypes
        ]
    )


def _run(work):
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # the compilers are processes of their own
        paths = list(pool.map(lambda task: task[0](*task[1:]), work))
    print(f"{len(paths)} compiled files are in {source.cache()}")
    return paths


def architectures_here():
    """The architectures of this machine's GPUs, by nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return sorted({"sm_" + line.strip().replace(".", "") for line in lines.splitlines()})


def main(arguments=None):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flambeau.kernels", description=__doc__)
    parser.add_argument("command", choices=("build", "check"))
    parser.add_argument("--arch", action="append", help="as sm_90; may be given several times")
    parser.add_argument("--dtype", action="append", choices=("float32", "float64"))
    options = parser.parse_args(arguments)
    dtypes = [np.dtype(name) for name in options.dtype or ("float32", "float64")]
    if options.command == "check":
        check(options.arch or source.ARCHITECTURES, dtypes)
    else:
        build(options.arch or architectures_here(), dtypes)


if __name__ == "__main__":
    main()
