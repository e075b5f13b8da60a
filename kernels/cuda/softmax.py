"""Softmax and its logarithm along an axis."""

import math

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


def softmax(x, axis):
    """y = eˣ / Σ eˣ along the axis"""
    return _rows("softmax", axis, x)


def softmax_backward(x, dy, axis):
    """dx = y (dy - Σ y dy)"""
    return _rows("softmax_backward", axis, x, dy)


def log_softmax(x, axis):
    """y = x - log Σ eˣ along the axis"""
    return _rows("log_softmax", axis, x)


def log_softmax_backward(x, dy, axis):
    """dx = dy - eʸ Σ dy"""
    return _rows("log_softmax_backward", axis, x, dy)


def _rows(kernel, axis, *xs):
    """A new y by a kernel that takes a block for each row along the axis."""
    xs = [contiguous(x) for x in xs]
    shape = xs[0].shape
    axis %= len(shape)
    y = empty(xs[0], shape, xs[0].dtype)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    device.launch_blocks("softmax", kernel, outer * inner, *xs, y, outer, shape[axis], inner)
    return y
