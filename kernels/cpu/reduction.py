"""Sums and extremes over one axis, which y lacks: C kernels."""

import math

from flambeau.kernels import reference
from flambeau.kernels.cpu import memory, native
from flambeau.kernels.cpu.arrays import contiguous


def sum_over(x, axis, scale):
    """y = scale · Σ x over the axis"""
    if not native.takes(x):
        return reference.sum_over(x, axis, scale)
    before, n, after = split(x.shape, axis)
    y = memory.empty(before + after, x.dtype)
    sizes = math.prod(before), n, math.prod(after)
    native.call("sum_over", contiguous(x), y, *sizes, scale)
    return y


def sum_over_backward(dy, axis, n, scale):
    """dx = scale · dy, n times along the axis"""
    if not native.takes(dy):
        return reference.sum_over_backward(dy, axis, n, scale)
    axis %= dy.ndim + 1
    before, after = dy.shape[:axis], dy.shape[axis:]
    dx = memory.empty((*before, n, *after), dy.dtype)
    sizes = math.prod(before), n, math.prod(after)
    native.call("sum_over_backward", contiguous(dy), dx, *sizes, scale)
    return dx


def extreme_over(x, axis, greatest):
    """y = the greatest x over the axis, or the least"""
    if not native.takes(x):
        return reference.extreme_over(x, axis, greatest)
    before, n, after = split(x.shape, axis)
    y = memory.empty(before + after, x.dtype)
    sizes = math.prod(before), n, math.prod(after)
    native.call("extreme_over", contiguous(x), y, *sizes, 1 if greatest else -1)
    return y


def extreme_over_backward(x, dy, axis, greatest):
    """dx = dy at the greatest x over the axis, or the least, the first of equals; else 0"""
    if not native.takes(x, dy):
        return reference.extreme_over_backward(x, dy, axis, greatest)
    before, n, after = split(x.shape, axis)
    dx = memory.empty(x.shape, x.dtype)
    sizes = math.prod(before), n, math.prod(after)
    sign = 1 if greatest else -1
    native.call("extreme_over_backward", contiguous(x), contiguous(dy), dx, *sizes, sign)
    return dx


def split(shape, axis):
    """The sizes before an axis, its own, and those behind it."""
    axis %= len(shape)
    return shape[:axis], shape[axis], shape[axis + 1 :]
