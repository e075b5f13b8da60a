"""Calls into the C extension: picks the variant for the processor and for the element type."""

import os
import threading

import numpy as np
from numpy import ndarray

from flambeau.kernels import Arrays
from flambeau.kernels.cpu._native import ffi, lib

from_buffer, NULL = ffi.from_buffer, ffi.NULL

REAL = {np.dtype("f4"): "float", np.dtype("f8"): "double"}
POINTER = {
    np.dtype("f4"): ffi.typeof("float[]"),
    np.dtype("f8"): ffi.typeof("double[]"),
    np.dtype("i4"): ffi.typeof("int[]"),
    np.dtype("i8"): ffi.typeof("long long[]"),
    np.dtype("u1"): ffi.typeof("unsigned char[]"),
}
PLAIN = {dtype: ffi.typeof(kind.cname.replace("[]", " *")) for dtype, kind in POINTER.items()}
TABLE = {dtype: ffi.typeof(f"{name} *[]") for dtype, name in REAL.items()}


def supported():
    """The instruction sets that this processor and this build have, the best first."""
    names = ["avx512"] * lib.supports_avx512() + ["avx2"] * lib.supports_avx2() + ["base"]
    return [name for name in names if hasattr(lib, f"relu_float_{name}")]


def _chosen():
    wanted = os.environ.get("FLAMBEAU_ISA") or supported()[0]
    if wanted not in supported():
        raise ImportError(f"FLAMBEAU_ISA={wanted}: this processor offers {', '.join(supported())}")
    return wanted


isa = _chosen()
_functions = {}
_threads = None  # the number that was asked for
_adopted = threading.local()  # .threads: the number that OpenMP knows in this Python thread
recorder = None  # the Tape that is being written, see tape.py


def set_threads(n):
    """Kernels called from now on, from any Python thread, run on n threads."""
    global _threads
    lib.set_threads(n)
    _threads = n


def takes(*arrays):
    """True when the C kernels know the dtype of these arrays (float32 or float64, all alike)."""
    dtype = arrays[0].dtype
    if dtype not in REAL:
        return False
    for a in arrays:  # a loop: all(…) would cost more than a small kernel
        if a is not None and a.dtype != dtype:
            return False
    return True


def writes(*arrays):
    """True when C can write to these arrays, or Nones, where they are."""
    for a in arrays:
        if a is not None and not a.flags.carray:
            return False
    return True


def records():
    """True while what this Python thread runs is written down."""
    return recorder is not None and recorder.is_mine()


def call(name, *args):
    """Run the C kernel `name`: arrays become pointers, None becomes NULL, numbers pass as they are.

    A list of arrays of one dtype becomes a table of pointers, a tuple an array of its numbers. The
    first array's dtype picks the variant. Arrays must be C-contiguous.
    """
    if _threads is not None:
        adopt()
    if recorder is not None and recorder.is_mine():  # records(), but for its call
        return recorder.call(name, args)
    dtype, passed = None, []
    for a in args:  # all here, in one loop: small layers take no longer than their calls
        kind = type(a)
        if kind is int:
            pass
        elif kind is ndarray or isinstance(a, ndarray):
            kind = a.dtype
            if dtype is None:
                dtype = kind
            a = from_buffer(POINTER[kind], a)
        elif a is None:
            a = NULL
        elif kind is list or kind is Arrays:
            if dtype is None:
                dtype = a[0].dtype
            a = table(a) if kind is list else lasting_table(a)
        passed.append(a)
    function = _functions.get((name, dtype)) or found(name, dtype)
    return function(*passed)


def table(arrays):
    """The addresses of a list of arrays, as an argument of a kernel."""
    pointer = POINTER[arrays[0].dtype]
    return [from_buffer(pointer, a) for a in arrays]


def lasting_table(arrays):
    """The same of Arrays, made once: while it lives, none of them can be given other memory."""
    if arrays.made is None:
        pointers = table(arrays)  # beside the table, which does not hold them
        arrays.made = ffi.new(TABLE[arrays[0].dtype], pointers), pointers
    return arrays.made[0]


def adopt():
    """Let OpenMP know the number of threads that was asked for in this Python thread too."""
    if getattr(_adopted, "threads", None) != _threads:
        _adopted.threads = _threads
        lib.adopt_threads()


def found(name, dtype):
    """The C function for the element type and this processor."""
    function = _functions[name, dtype] = getattr(lib, f"{name}_{REAL[dtype]}_{isa}")
    return function


def replayer(function):
    """What calls this C function with numbers in memory; None for another one."""
    for (name, dtype), known in _functions.items():
        if known is function:
            return getattr(lib, f"replayer_{REAL[dtype]}_{isa}")(name.encode()) or None
    return None


def drawn_from(stream):
    """The array, of key and counter, from which a kernel draws random numbers: others each time."""
    if records():
        recorder.streams.append(stream)
    return stream


def address(x):
    """The place of the first element of an array of any strides, as an argument of `call`."""
    if records():
        return recorder.place(x)
    return ffi.cast(PLAIN[x.dtype], x.__array_interface__["data"][0])
