"""Softmax and its logarithm along an axis: C kernels."""

import math

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import native


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
    xs = [reference.contiguous(x) for x in xs]
    shape = xs[0].shape
    axis %= len(shape)
    y = np.empty_like(xs[0])
    sizes = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    native.call(name, *xs, y, *sizes)
    return y
