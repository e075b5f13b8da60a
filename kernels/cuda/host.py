"""CUDA kernels on the host: an array with GPUArray's interface, and launches on fibres."""

import ctypes
import functools
import types

import numpy as np

from flambeau.kernels.cuda import source

# An odd, small grid: no kernel was thought for it, and every one must be right on it.
grid = 3, 7  # blocks, threads a block

_CTYPES = {"i64": ctypes.c_longlong, "real4": ctypes.c_float, "real8": ctypes.c_double}


def _refused(name):
    def refuse(self, *arguments, **options):
        raise TypeError(
            f"{name} does not take {self!r}: it lies on a device. Use the functions of "
            "kernels.of(x), or x.get() for an ndarray"
        )

    refuse.__name__ = name
    return refuse


class HostArray:
    """An array of the host device: GPUArray's interface and nothing more.

    It is no ndarray and refuses NumPy's functions and operators, so that code which would fail
    on a GPU fails here as well. New ones are filled with NaN (all bits set).

    >>> x = to_host(np.ones((2, 3), "f4"))
    >>> x.shape, x.dtype, x[1, :2].get()
    ((2, 3), dtype('float32'), array([1., 1.], dtype=float32))
    """

    __array_ufunc__ = None

    def __init__(self, shape, dtype):
        view = np.empty(shape, dtype)
        view.reshape(-1).view(np.uint8)[...] = 0xFF
        self._take(view)

    def _take(self, view):
        self._view = view
        for name in ("shape", "dtype", "strides", "size", "ndim", "nbytes", "itemsize"):
            setattr(self, name, getattr(view, name))
        return self

    def _new(self, view):
        return HostArray.__new__(HostArray)._take(view)

    @property
    def gpudata(self):
        """The address of the first element."""
        return self._view.ctypes.data

    @property
    def flags(self):
        """c_contiguous, f_contiguous and forc (either), as GPUArray has them."""
        flags = self._view.flags
        return types.SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, forc=flags.forc
        )

    def get(self):
        """A copy as an ndarray."""
        return self._view.copy()

    def set(self, x):
        """Overwrite with the values of an ndarray of this shape and dtype."""
        if not isinstance(x, np.ndarray) or x.shape != self.shape or x.dtype != self.dtype:
            got = f"{type(x).__name__} {getattr(x, 'shape', '')} {getattr(x, 'dtype', '')}"
            raise ValueError(f"{self!r}.set takes an ndarray of its shape and dtype — got {got}")
        self._view[...] = x

    def reshape(self, *shape):
        """The same elements in another shape; only for C-contiguous arrays."""
        if not self.flags.c_contiguous:
            raise RuntimeError(f"{self!r} must be contiguous to be reshaped — use contiguous(x)")
        return self._new(self._view.reshape(*shape))

    def transpose(self, axes=None):
        """A view with permuted axes."""
        return self._new(self._view.transpose(axes))

    @property
    def T(self):
        """A view with the axes in reverse."""
        return self.transpose()

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        for entry in index:
            if not isinstance(entry, slice | int | np.integer | types.EllipsisType | None):
                raise TypeError(f"{self!r} takes only slices and integers — got {entry!r}")
        # An Ellipsis makes NumPy give a view also where every axis has an integer.
        return self._new(self._view[index if Ellipsis in index else (*index, ...)])

    def __len__(self):
        return len(self._view)

    def __repr__(self):
        return f"HostArray({self.shape}, {self.dtype})"

    __hash__ = object.__hash__


for _name in (
    "__array__ __array_function__ __iter__ __bool__ __float__ __int__ __setitem__ __eq__ __ne__ "
    "__lt__ __le__ __gt__ __ge__ __neg__ __pos__ __abs__ __add__ __radd__ __iadd__ __sub__ "
    "__rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __rtruediv__ __itruediv__ "
    "__floordiv__ __rfloordiv__ __mod__ __rmod__ __pow__ __rpow__ __matmul__ __rmatmul__"
).split():
    setattr(HostArray, _name, _refused(_name))


def empty(shape, dtype):
    """A new array, filled with NaN (all bits set)."""
    return HostArray(shape, dtype)


def to_host(x):
    """An ndarray's values as a HostArray."""
    y = HostArray(x.shape, x.dtype)
    y.set(x)
    return y


def clear(x):
    """x[...] = 0"""
    x._view[...] = 0


def spread(n):
    """The blocks for n elements: the whole grid, however few they are."""
    return grid[0]


def launch(family, name, dtype, kinds, values, blocks):
    """Run a kernel on fibres: on at most `blocks` blocks, and no more than the grid has."""
    numbers = []
    for kind, value in zip(kinds, values, strict=True):
        if kind == "real":
            kind += str(dtype.itemsize)
        if isinstance(value, bytes):
            numbers.append(ctypes.create_string_buffer(value, len(value)))
            continue
        numbers.append(_CTYPES.get(kind, ctypes.c_void_p)(value))
    pointers = (ctypes.c_void_p * len(numbers))(*(ctypes.addressof(v) for v in numbers))
    error = _entry(family, name, dtype)(min(blocks, grid[0]), grid[1], pointers)
    if error:
        raise RuntimeError(f"kernel {name} of {source.path(family).name}: {error.decode()}")


@functools.cache
def _entry(family, name, dtype):
    function = getattr(_library(family, dtype), f"launch_{name}")
    function.argtypes = ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p
    function.restype = ctypes.c_char_p
    return function


@functools.cache
def _library(family, dtype):
    return ctypes.CDLL(str(source.host_library(family, dtype)))
