"""Memory order of images: arrays are (n, c, h, w) to everyone, memory may be channels-last."""

import math

import numpy as np

from flambeau.kernels.cpu import memory, native


def plain(*arrays):
    """True when these arrays are in C order, at addresses that C can read."""
    for x in arrays:
        flags = x.flags
        if not (flags.c_contiguous and flags.aligned):
            return False
    return True


def is_channels_last(x):
    """True when the memory of x (n, c, h, w) is in the order n, h, w, c and not in C order."""
    return x.ndim == 4 and not x.flags.c_contiguous and x.transpose(0, 2, 3, 1).flags.c_contiguous


def channels_last(x):
    """x (n, c, h, w) as a C-contiguous (n, h, w, c): a view where its memory is so, else a copy."""
    return arranged(x, True).transpose(0, 2, 3, 1)


def empty_channels_last(shape, dtype):
    """A new array (n, c, h, w) whose memory is in the order n, h, w, c."""
    n, c, h, w = shape
    return memory.empty((n, h, w, c), dtype).transpose(0, 3, 1, 2)


def dense(x):
    """True when the elements of x fill one block of memory, in any order of the axes.

    False at an address that C cannot read.
    """
    if x.flags.c_contiguous or not x.flags.aligned or is_channels_last(x):
        return x.flags.aligned
    expected = x.itemsize
    for stride, size in sorted((s, n) for s, n in zip(x.strides, x.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def memory_order(x):
    """The axes of x from the one with the largest steps in memory to the one with the smallest.

    >>> memory_order(empty_channels_last((2, 3, 4, 5), "f4"))
    [0, 2, 3, 1]
    """
    steps = [abs(s) if n > 1 else 0 for s, n in zip(x.strides, x.shape, strict=True)]
    return sorted(range(x.ndim), key=lambda i: -steps[i])


def empty_like(x):
    """A new array of any contents, its axes in the same order in memory as those of x."""
    if x.flags.c_contiguous:
        return memory.empty(x.shape, x.dtype)
    if is_channels_last(x):
        return empty_channels_last(x.shape, x.dtype)
    order = memory_order(x)
    y = memory.empty([x.shape[i] for i in order], x.dtype)
    return y.transpose(np.argsort(order))


def copied(x, like):
    """A copy of x, its axes in the same order in memory as those of `like`."""
    y = empty_like(like)
    if x.dtype != y.dtype or not turned(x, y):
        memory.assign(y, x)
    return y


def alike(x, *others):
    """Arrays of one shape in one dense memory order, that of x: themselves, or copies."""
    if not dense(x):
        x = copied(x, x)
    return x, *(a if dense(a) and _same_order(a, x) else copied(a, x) for a in others)


def _same_order(a, b):
    if a.strides == b.strides or a.flags.c_contiguous and b.flags.c_contiguous:
        return True
    steps = zip(a.strides, b.strides, a.shape, strict=True)
    return all(s == t for s, t, size in steps if size > 1)


def block(x):
    """The dense array x as kernels take it: its elements as they lie in memory (a view)."""
    return x if x.flags.c_contiguous else x.ravel("K")


def prefers_channels_last(x):
    """True for images with channels-last memory, and for parts of such images."""
    if x.ndim != 4 or x.flags.c_contiguous or x.shape[1] == 1:
        return False
    if is_channels_last(x):
        return True
    step = abs(x.strides[1])
    return all(step < abs(x.strides[i]) for i in (0, 2, 3) if x.shape[i] > 1)


def arranged(x, last):
    """x in C order, or as images with channels-last memory: itself where it is so, else a copy."""
    if x.flags.aligned and (x.flags.c_contiguous if not last else _is_last(x)):
        return x
    y = empty_arranged(x.shape, x.dtype, last)
    if not turned(x, y):
        assign(y, x)
    return y


def assign(y, x):
    """y[...] = x, by C for images whose channels lie together; x None: zeros"""
    if not (_pixels(y) and (x is None or _pixels(x) and (x.shape, x.dtype) == (y.shape, y.dtype))):
        memory.assign(y, 0 if x is None else x)
        return
    n, c, h, w = y.shape
    sizes = [n, h, w, c, *(_steps(y if x is None else x)), *_steps(y)]
    place = None if x is None else native.address(x)
    native.call("copy_pixels", np.empty(1, y.dtype), place, native.address(y), np.array(sizes))


def _pixels(x):
    """True for images that C can address, of floats, in each pixel one beside the other."""
    beside = x.ndim == 4 and x.size > 0 and x.strides[1] == x.itemsize
    return beside and simple(x) and native.takes(x)


def simple(x):
    """True when the kernels can address x: its strides are whole numbers of elements, none < 0."""
    return x.flags.aligned and min(x.strides) >= 0 and all(s % x.itemsize == 0 for s in x.strides)


def _steps(x):
    """The numbers from an image, a row and a column to the next."""
    image, _, row, column = x.strides
    return image // x.itemsize, row // x.itemsize, column // x.itemsize


def turned(x, y):
    """Copy images between C order and channels-last memory; False where it is neither of these."""
    simple = x.ndim == 4 and native.takes(x, y) and x.flags.aligned and x.size > 0
    if not simple or x.flags.c_contiguous == y.flags.c_contiguous:
        return False
    n, c, h, w = x.shape
    if x.flags.c_contiguous and _is_last(y):
        native.call("transpose_planes", x, y.transpose(0, 2, 3, 1), n, c, h * w)
    elif _is_last(x) and y.flags.c_contiguous:
        native.call("transpose_planes", x.transpose(0, 2, 3, 1), y, n, h * w, c)
    else:
        return False
    return True


def _is_last(x):
    return x.transpose(0, 2, 3, 1).flags.c_contiguous


def empty_arranged(shape, dtype, last):
    """A new array of any contents in C order, or with channels-last memory."""
    return empty_channels_last(shape, dtype) if last else memory.empty(shape, dtype)


def by_channel(x, *others):
    """Arrays (n, c, *s) in one memory order that kernels over channels take, and (n, c, s).

    Where the channels are innermost in memory every position is a sample of its own, (n s, c, 1).
    """
    last = prefers_channels_last(x)
    n, c, s = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    arrays = [arranged(a, last) for a in (x, *others)]
    return arrays, ((n * s, c, 1) if last else (n, c, s))
