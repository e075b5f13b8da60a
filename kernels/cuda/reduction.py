"""Sums and extremes over one axis, which y lacks: x (*s, n, *t) -> y (*s, *t)."""

import math

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


def sum_over(x, axis, scale):
    """y = scale · Σ x over the axis"""
    x, y, outer, n, inner = _prepared(x, axis)
    if inner == 1:
        device.launch_blocks("reduction", "sum_rows", outer, x, y, outer, n, scale)
    else:
        sizes = outer, n, inner
        device.launch("reduction", "sum_columns", outer * inner, x, y, *sizes, scale)
    return y


def sum_over_backward(dy, axis, n, scale):
    """dx = scale · dy, n times along the axis"""
    axis %= len(dy.shape) + 1
    dx = empty(dy, (*dy.shape[:axis], n, *dy.shape[axis:]), dy.dtype)
    sizes = dx.size, n, math.prod(dy.shape[axis:])
    device.launch("reduction", "sum_over_backward", dx.size, contiguous(dy), dx, *sizes, scale)
    return dx


def extreme_over(x, axis, greatest):
    """y = the greatest x over the axis, or the least"""
    x, y, outer, n, inner = _prepared(x, axis)
    sizes, sign = (outer, n, inner), 1 if greatest else -1
    device.launch("reduction", "extreme_over", outer * inner, x, y, *sizes, sign)
    return y


def extreme_over_backward(x, dy, axis, greatest):
    """dx = dy at the greatest x over the axis, or the least, the first of equals; else 0"""
    x, _, outer, n, inner = _prepared(x, axis)
    dx = empty(x, x.shape, x.dtype)
    arrays, sign = (x, contiguous(dy), dx), 1 if greatest else -1
    sizes = outer, n, inner
    device.launch("reduction", "extreme_over_backward", outer * inner, *arrays, *sizes, sign)
    return dx


def _prepared(x, axis):
    """x in C order, room for y, and the sizes before the axis, of it and behind it."""
    axis %= len(x.shape)
    before, n, after = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    y = empty(x, (*before, *after), x.dtype)
    return contiguous(x), y, math.prod(before), n, math.prod(after)
