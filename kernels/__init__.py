"""The arithmetic, three times over: reference (NumPy), cpu (C) and cuda (CUDA).

The array decides: `kernels.of(x)` is the package whose functions compute on x. The three
packages offer the same functions with the same signatures; layers check, kernels trust.
"""

import contextlib
import os
import re
import warnings

import numpy as np

from flambeau.kernels import reference

_numpy_package = None  # what serves NumPy arrays: chosen at first use, or by use()


class Arrays(list):
    """Arrays that go to kernels together again and again, a list that nobody changes.

    made: what a package of kernels keeps of them, None at first.
    """

    made = None


def of(x):
    """The package of kernels for the array x: ndarray -> cpu, GPUArray or HostArray -> cuda.

    >>> of(np.ones(3)) in (reference, package("cpu"))
    True
    """
    if isinstance(x, np.ndarray):
        return _numpy_package or _choose()
    if isinstance(x, tuple) and x:
        return of(x[0])
    if hasattr(x, "gpudata"):
        return package("cuda")
    raise TypeError(f"an array must be an ndarray or a GPUArray — got {type(x).__name__}")


def package(name):
    """The package called "reference", "cpu" or "cuda"."""
    if name == "reference":
        return reference
    if name == "cpu":
        from flambeau.kernels import cpu

        return cpu
    if name == "cuda":
        from flambeau.kernels import cuda

        return cuda
    raise ValueError(f"a package of kernels is reference, cpu or cuda — got {name!r}")


def _choose():
    """Take the C kernels for NumPy arrays, or the reference with one warning."""
    global _numpy_package
    name = os.environ.get("FLAMBEAU_KERNELS", "cpu")
    try:
        _numpy_package = package(name)
    except ImportError as error:
        _numpy_package = reference
        warnings.warn(
            f"the C kernels were not built ({error}); NumPy's are used, which are much slower. "
            "Install a C compiler and reinstall flambeau to build them.",
            RuntimeWarning,
            stacklevel=3,
        )
    return _numpy_package


@contextlib.contextmanager
def use(name):
    """Inside, NumPy arrays are computed by "reference" or "cpu".

    >>> with use("reference"):
    ...     of(np.ones(3)).__name__
    'flambeau.kernels.reference'
    """
    global _numpy_package
    if name not in ("reference", "cpu"):
        raise ValueError(f"NumPy arrays are computed by reference or cpu — got {name!r}")
    before, _numpy_package = _numpy_package, package(name)
    try:
        yield _numpy_package
    finally:
        _numpy_package = before


def set_num_threads(n):
    """The C kernels run on n threads each, whichever Python thread calls them.

    At first they run on OMP_NUM_THREADS, or else on every processor that the process may use.
    Several Python threads may call kernels at once; each call then has n threads to itself. A
    process may be forked at any time: the child computes on n threads of its own.
    """
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= 4096:
        raise ValueError(f"set_num_threads(n): n must be an int from 1 to 4096 — got {n!r}")
    package("cpu").native.set_threads(n)


def get_num_threads():
    """The number of threads that the C kernels run on.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    return package("cpu").native.lib.threads()


def __getattr__(name):
    if name == "memory":  # loads the C kernels, so only when it is asked for
        return package("cpu").memory
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def device(x):
    """Where the array x lies: "cpu", "host" or "cuda:<number>"."""
    if isinstance(x, np.ndarray):
        return "cpu"
    return package("cuda").device_of(x)


def to(x, where):
    """x on another device: "cpu", "host" (CUDA kernels on host threads), "cuda" or "cuda:1"."""
    on_cpu = isinstance(x, np.ndarray)
    if (on_cpu and where == "cpu") or (not on_cpu and package("cuda").is_on(x, where)):
        return x
    if not isinstance(where, str) or not re.fullmatch(r"cpu|host|cuda(:\d+)?", where):
        raise ValueError(f"a device is cpu, host, cuda or cuda:<number> — got {where!r}")
    x = of(x).numpy(x)
    return x if where == "cpu" else package("cuda").to_device(x, where)


def asarray(x):
    """x as an array that the kernels take, without a copy where that is possible.

    ndarrays, GPUArrays and tuples of them pass as they are; anything that offers DLPack (a
    PyTorch tensor, a CuPy array) or `__cuda_array_interface__` is wrapped in place; lists and
    numbers become float32 (integers stay integers).
    """
    if isinstance(x, np.ndarray) or hasattr(x, "gpudata"):
        return x
    if isinstance(x, tuple):
        return tuple(asarray(v) for v in x)
    if hasattr(x, "__cuda_array_interface__"):
        return package("cuda").wrap(x)
    if hasattr(x, "__dlpack__"):
        return np.from_dlpack(x)
    y = np.asarray(x)
    if y.dtype.kind not in "fiub":
        raise TypeError(f"an input must be an array of numbers — got {type(x).__name__} {x!r:.60}")
    return y.astype(np.float32) if y.dtype == np.float64 else y
