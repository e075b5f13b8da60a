"""Softmax and its logarithm along an axis: C kernels."""

import math

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, native


def softmax(x, axis):
    """y = eˣ / Σ eˣ along the axis"""
    return _rows("softmax", axis, x)


def softmax_backward(x, dy, axis):
    """dx = y (dy − Σ y dy)"""
    return _rows("softmax_backward", axis, x, dy)


def log_softmax(x, axis):
    """y = x − ln Σ eˣ along the axis"""
    return _rows("log_softmax", axis, x)


def log_softmax_backward(x, dy, axis):
    """dx = dy − eʸ Σ dy"""
    return _rows("log_softmax_backward", axis, x, dy)


def _rows(name, axis, *xs):
    """A kernel over the rows along an axis."""
    if not native.takes(*xs):
        return getattr(reference, name)(*xs, axis)
    xs = layout.alike(*xs)
    y = layout.empty_like(xs[0])
    order = layout.memory_order(xs[0])
    shape, axis = [y.shape[i] for i in order], order.index(axis % y.ndim)
    sizes = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    native.call(name, *map(layout.block, (*xs, y)), *sizes)
    return y
