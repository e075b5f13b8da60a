"""Arrays made, copied, joined and taken apart: C kernels where images are joined by channel."""

import contextlib
import math

import numpy as np

from flambeau.kernels.cpu import layout, memory, native

SHARED = 1 << 16  # numbers that all threads clear together


def empty(like, shape, dtype):
    """A new array of any contents."""
    return memory.empty(shape, dtype)


def zeros(like, shape, dtype):
    """A new array of zeros; a large one starts at a line of the caches, as its vectors then do."""
    dtype, size = np.dtype(dtype), math.prod(shape)
    if size * dtype.itemsize < memory.LARGE or memory.LINE % dtype.itemsize:
        return np.zeros(shape, dtype)
    more = np.zeros(size + memory.LINE // dtype.itemsize, dtype)  # the system's, not yet there
    first = -more.ctypes.data % memory.LINE // dtype.itemsize
    return more[first : first + size].reshape(shape)


def contiguous(x):
    """x in C order and at an address that C can read: itself when it is, else a copy."""
    if x.flags.carray or layout.plain(x):
        return x
    return layout.arranged(x, False)


def readable(x):
    """The same; None stays None."""
    return None if x is None else contiguous(x)


@contextlib.contextmanager
def in_place(*arrays):
    """What C can write to for these arrays: they themselves, or copies that go back; Nones stay."""
    found = [a if native.writes(a) else memory.copy(a) for a in arrays]
    yield found
    for a, written in zip(arrays, found, strict=True):
        if written is not a:
            memory.assign(a, written)


def copy(x):
    """A new array with the values of x in C order."""
    return memory.copy(x)


def fill(dst, value):
    """dst[...] = value"""
    large = dst.size > SHARED or native.records()
    if value == 0 and large and native.takes(dst) and dst.flags.carray:
        native.call("clear", dst, dst.size)
    else:
        dst.fill(value)


def cast(x, dtype):
    """x in another dtype, always a new array."""
    y = memory.empty(x.shape, dtype)
    np.copyto(y, x, casting="unsafe")
    return y


def concatenate(xs, axis):
    """y = xs one after another along an axis; channels-last memory where most of xs have it"""
    if xs[0].ndim != 4 or axis % 4 != 1 or not native.takes(*xs):
        return _joined(xs, axis)
    (n, _, h, w), channels = xs[0].shape, [x.shape[1] for x in xs]
    last = sum(x.shape[1] for x in xs if layout.prefers_channels_last(x)) * 2 > sum(channels)
    y = layout.empty_arranged((n, sum(channels), h, w), xs[0].dtype, last)
    rows, inner = (n * h * w, 1) if last else (n, h * w)
    start, pitch, to = 0, y.shape[1] * inner, layout.block(y)
    for x, c in zip(xs, channels, strict=True):
        part = layout.block(layout.arranged(x, last))
        native.call("copy_rows", part, 0, c * inner, to, start, pitch, rows, c * inner)
        start += c * inner
    return y


def _joined(xs, axis):
    """np.concatenate(xs, axis)"""
    axis %= xs[0].ndim
    shape = list(xs[0].shape)
    shape[axis] = sum(x.shape[axis] for x in xs)
    y, start = memory.empty(shape, np.result_type(*xs)), 0
    for x in xs:
        end = start + x.shape[axis]
        memory.assign(y[(slice(None),) * axis + (slice(start, end),)], x)
        start = end
    return y


def split(x, sizes, axis):
    """The pieces of x of the given sizes along an axis: views, or new images of channels-last"""
    if axis % x.ndim != 1 or not native.takes(x) or not layout.is_channels_last(x):
        return np.split(x, np.cumsum(sizes[:-1]), axis)
    (n, c, h, w), whole = x.shape, layout.block(layout.arranged(x, last=True))
    pieces, start = [], 0
    for size in sizes:
        y = layout.empty_arranged((n, size, h, w), x.dtype, last=True)
        places = whole, start, c, layout.block(y), 0, size
        native.call("copy_rows", *places, n * h * w, size)
        pieces.append(y)
        start += size
    return pieces
