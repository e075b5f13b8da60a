"""Making, moving and joining arrays."""

import numpy as np


def empty(like, shape, dtype):
    """A new array of any contents on the device of `like`."""
    return np.empty(shape, dtype)


def zeros(like, shape, dtype):
    """A new array of zeros on the device of `like`."""
    return np.zeros(shape, dtype)


def array(like, x):
    """The ndarray x on the device of `like`."""
    return x


def numpy(x):
    """x as an ndarray."""
    return x


def contiguous(x):
    """x in C order and at an address that C can read: itself when it is, else a copy."""
    return x if x.flags.c_contiguous and x.flags.aligned else x.copy(order="C")


def copy(x):
    """A new array with the values of x in C order."""
    return x.copy(order="C")


def cast(x, dtype):
    """x in another dtype, always a new array."""
    return x.astype(dtype, order="C")


def assign(dst, src):
    """dst[...] = src"""
    dst[...] = src


def fill(dst, value):
    """dst[...] = value"""
    dst[...] = value


def accumulate(dst, src):
    """dst += src"""
    dst += src


def concatenate(xs, axis):
    """y = xs one after another along an axis."""
    return np.concatenate(xs, axis)


def split(x, sizes, axis):
    """The pieces of x of the given sizes along an axis (views)."""
    return np.split(x, np.cumsum(sizes[:-1]), axis)
