"""Making, moving and joining arrays."""

import math

import numpy as np

from flambeau.kernels.cuda import device, host

_DIMENSIONS = 6
_CODES = {np.dtype(name): code for code, name in enumerate(("f4", "f8", "i4", "i8", "u1"))}


def empty(like, shape, dtype):
    """A new array of any contents on the device of `like`."""
    return device.of(like).empty(shape, dtype)


def zeros(like, shape, dtype):
    """A new array of zeros on the device of `like`."""
    place = device.of(like)
    y = place.empty(shape, dtype)
    place.clear(y)
    return y


def array(like, x):
    """The ndarray x on the device of `like`."""
    return device.to_device(x, device.device_of(like))


def numpy(x):
    """x as an ndarray."""
    x = contiguous(x)  # pycuda takes only some strides
    place = device.of(x)
    if place is host:
        return x.get()
    with place.current():
        return x.get()


def contiguous(x):
    """x in C order: itself when it is, else a copy."""
    return x if x.flags.c_contiguous else copy(x)


def copy(x):
    """A new array with the values of x in C order."""
    y = empty(x, x.shape, x.dtype)
    assign(y, x)
    return y


def cast(x, dtype):
    """x in another dtype, always a new array."""
    dtype = np.dtype(dtype)
    if x.dtype == dtype:
        return copy(x)
    for asked in (x.dtype, dtype):
        if asked not in _CODES:
            allowed = ", ".join(str(d) for d in _CODES)
            raise TypeError(f"cast on a device takes {allowed} — got {asked}")
    x = contiguous(x)
    y = empty(x, x.shape, dtype)
    device.launch("arrays", "cast", x.size, x, _CODES[x.dtype], y, _CODES[dtype], x.size)
    return y


def assign(dst, src):
    """dst[...] = src, src broadcast"""
    if isinstance(src, np.ndarray):
        src = array(dst, src)
    if src.dtype != dst.dtype:
        src = cast(src, dst.dtype)
    if dst.size:
        _strided("assign", dst, src, dst.itemsize)


def fill(dst, value):
    """dst[...] = value"""
    if value == 0 and dst.flags.c_contiguous:
        device.of(dst).clear(dst)
    else:
        assign(dst, np.full((1,) * len(dst.shape), value, dst.dtype))


def accumulate(dst, src):
    """dst += src, src broadcast"""
    if dst.dtype != src.dtype or dst.dtype.kind != "f":
        raise TypeError(f"accumulate takes floats of one dtype — got {dst.dtype} and {src.dtype}")
    if dst.size:
        _strided("accumulate", dst, src)


def concatenate(xs, axis):
    """y = xs one after another along an axis."""
    axis %= len(xs[0].shape)
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y = empty(xs[0], tuple(shape), xs[0].dtype)
    start = 0
    for x in xs:
        if x.size:
            assign(_slice(y, axis, start, x.shape[axis]), x)
        start += x.shape[axis]
    return y


def split(x, sizes, axis):
    """The pieces of x of the given sizes along an axis, new arrays."""
    axis %= len(x.shape)
    pieces, start = [], 0
    for size in sizes:
        piece = empty(x, (*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
        if piece.size:
            assign(piece, _slice(x, axis, start, size))
        pieces.append(piece)
        start += size
    return pieces


def wrap(x):
    """The GPUArray on the memory of anything that has `__cuda_array_interface__`."""
    from pycuda.gpuarray import GPUArray

    from flambeau.kernels.cuda import gpu

    interface = x.__cuda_array_interface__
    place = gpu.get(None)
    with place.current():
        return GPUArray(
            interface["shape"],
            np.dtype(interface["typestr"]),
            base=x,
            gpudata=interface["data"][0],
            strides=interface.get("strides"),
            allocator=place.allocator,
        )


def _slice(x, axis, start, size):
    return x[(slice(None),) * axis + (slice(start, start + size),)]


def _strided(name, dst, src, *options):
    """Launch a kernel over the elements of dst and src (broadcast), whatever their strides."""
    shape, a, b = _plan(dst, src)
    first = _DIMENSIONS - len(shape)
    numbers = [*[1] * first, *shape, *[0] * first, *a, *[0] * first, *b]
    device.launch_strided("arrays", name, dst.size, src, dst, *options, dst.size, first, *numbers)


def _plan(dst, src):
    """The shape and the strides in elements of src and dst, in as few dimensions as will do."""
    missing = len(dst.shape) - len(src.shape)
    if missing < 0 or any(
        want != got != 1 for want, got in zip(dst.shape[missing:], src.shape, strict=True)
    ):
        raise ValueError(f"an array of shape {dst.shape} cannot take one of shape {src.shape}")
    repeated = [0] * missing
    a = repeated + [
        0 if count == 1 else s // src.itemsize
        for s, count in zip(src.strides, src.shape, strict=True)
    ]
    b = [s // dst.itemsize for s in dst.strides]
    merged = []
    for count, from_, to in zip(dst.shape, a, b, strict=True):
        if count == 1:
            continue
        if merged and merged[-1][1:] == (from_ * count, to * count):
            count *= merged.pop()[0]
        merged.append((count, from_, to))
    if len(merged) > _DIMENSIONS:
        raise ValueError(
            f"a strided copy takes at most {_DIMENSIONS} dimensions that cannot be merged — got "
            f"shape {dst.shape}: make the arrays contiguous first"
        )
    return tuple(zip(*(merged or [(math.prod(dst.shape), 0, 0)]), strict=True))


def elementwise(family, kernel, xs, *options):
    """A new y of the shape of xs[0], by a kernel (xs..., y, n, options...)."""
    xs = [contiguous(x) for x in xs]
    y = empty(xs[0], xs[0].shape, xs[0].dtype)
    device.launch(family, kernel, y.size, *xs, y, y.size, *options)
    return y
