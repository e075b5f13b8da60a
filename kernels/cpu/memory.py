"""The memory of large arrays: freed blocks are kept and given out again (see blocks.h).

Arrays are plain ndarrays; their memory goes back when the last view of it dies. NumPy's own hook
for allocators (NEP 49) is not used: it would change every array of the process, the caller's too,
and needs NumPy's C headers; an owner of our own costs a microsecond an array, which large arrays
do not notice. Small ones come from NumPy.
"""

import os
from math import inf, prod

import numpy as np

from flambeau.kernels.cpu import native
from flambeau.kernels.cpu._native import ffi, lib

LARGE = 1 << 16  # bytes; below, NumPy's own allocation is as fast
MOST = 2**63 - 1  # bytes; never to be had
if os.environ.get("FLAMBEAU_MEMORY") == "numpy":  # lets sanitizers see where an array ends
    LARGE = inf

_own, _buffer, _allocate, _release = ffi.gc, ffi.buffer, lib.memory_allocate, lib.memory_release
LINE = 64  # bytes of the caches
PAGE = 1024  # numbers
APART = 16384  # of kernel.h
arena = None  # where a recording takes its memory, see arena.py


def empty(shape, dtype):
    """A new C-contiguous array of any contents; large ones start at a page of memory.

    >>> empty((2, 3), "f4").shape
    (2, 3)
    """
    dtype = np.dtype(dtype)
    size = dtype.itemsize * (prod(shape) if isinstance(shape, (tuple, list)) else int(shape))
    if arena is not None and arena.is_mine():
        return np.ndarray(shape, dtype, _buffer(arena.block(size), size))
    if size < LARGE or dtype.hasobject:
        return np.empty(shape, dtype)
    owner = allocated(size)
    if owner is None:
        raise MemoryError(f"an array of shape {shape} and dtype {dtype} needs {size} bytes")
    return np.ndarray(shape, dtype, _buffer(owner, size))


def allocated(size):
    """The owner of a new block of memory, None where there is not so much."""
    start = _allocate(min(size, MOST))
    return _own(start, _release) if start else None


def apart(size):
    """Numbers of scratch memory for each thread, of so many that it uses.

    Between those of two threads there is some that none uses: past the end of what a thread goes
    through its processor fetches more, which the other thread would have to take back.
    """
    return -(-size // PAGE) * PAGE + APART if size else 0


def copy(x):
    """A new array with the values of x in C order."""
    y = empty(x.shape, x.dtype)
    assign(y, x)
    return y


def assign(to, x):
    """to[...] = x, by NumPy: for memory in no order that a kernel knows"""
    if native.records():
        native.recorder.assign(to, x)
    else:
        to[...] = x


def trim():
    """Give the memory of blocks that are not in use back to the system."""
    lib.memory_trim()


def stats():
    """Counts as a dict: bytes live, cached, peak and mapped; requests served (hits, misses).

    live: in arrays. cached: freed and kept, about. peak: the most that was live. mapped: address
    space. A hit was served by memory used before, a miss by memory fresh from the system.

    >>> sorted(stats())
    ['cached', 'hits', 'live', 'mapped', 'misses', 'peak']
    """
    figures = ffi.new("long long[6]")
    lib.memory_stats(figures)
    names = "live", "cached", "peak", "mapped", "hits", "misses"
    return dict(zip(names, figures, strict=True))
