"""Softmax and its logarithm along an axis."""

import numpy as np


def softmax(x, axis):
    """y = eˣ / Σ eˣ along the axis; NaN where all of x is −∞ or some is ∞"""
    with np.errstate(invalid="ignore"):
        e = np.exp(x - x.max(axis, keepdims=True, initial=-np.inf))
        return e / e.sum(axis, keepdims=True)


def softmax_backward(x, dy, axis):
    """dx = y (dy − Σ y dy)"""
    y = softmax(x, axis)
    return y * (dy - (y * dy).sum(axis, keepdims=True))


def log_softmax(x, axis):
    """y = x − ln Σ eˣ along the axis"""
    with np.errstate(invalid="ignore", divide="ignore"):
        x = x - x.max(axis, keepdims=True, initial=-np.inf)
        return x - np.log(np.exp(x).sum(axis, keepdims=True))


def log_softmax_backward(x, dy, axis):
    """dx = dy − eʸ Σ dy"""
    return dy - softmax(x, axis) * dy.sum(axis, keepdims=True)
