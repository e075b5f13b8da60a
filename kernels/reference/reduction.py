"""Sums and extremes over one axis, which y lacks: x (*s, n, *t) -> y (*s, *t)."""

import numpy as np


def sum_over(x, axis, scale):
    """y = scale · Σ x over the axis"""
    return np.asarray(x.sum(axis, dtype=np.result_type(x, "f8")) * scale).astype(x.dtype)


def sum_over_backward(dy, axis, n, scale):
    """dx = scale · dy, n times along the axis"""
    return np.repeat(np.expand_dims(dy * dy.dtype.type(scale), axis), n, axis)


def extreme_over(x, axis, greatest):
    """y = the greatest x over the axis, or the least; NaN where one is NaN"""
    return np.asarray(x.max(axis) if greatest else x.min(axis))


def extreme_over_backward(x, dy, axis, greatest):
    """dx = dy at the greatest x over the axis, or the least, the first of equals; else 0"""
    place = np.expand_dims(x.argmax(axis) if greatest else x.argmin(axis), axis)
    dx = np.zeros(x.shape, dy.dtype)
    np.put_along_axis(dx, place, np.expand_dims(dy, axis), axis)
    return dx
