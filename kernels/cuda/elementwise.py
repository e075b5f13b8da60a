"""Sums, products, maxima and functions of arrays of one shape, and scales by channel."""

import math

import numpy as np

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, copy, elementwise, empty, zeros


def add(xs):
    """y = Σ xs"""
    return _fold("add", xs)


def mul(xs):
    """y = Π xs"""
    return _fold("mul", xs)


def mul_backward(xs, dy):
    """dx of each x = dy times all the other xs"""
    return [_fold("mul", [dy, *xs[:i], *xs[i + 1 :]]) for i in range(len(xs))]


def maximum(xs):
    """y = the greatest of the xs"""
    return _fold("maximum", xs)


def maximum_backward(xs, dy):
    """dx of each x = dy where that x was the (first) greatest, else 0"""
    best, dy = copy(xs[0]), contiguous(dy)
    index = zeros(best, best.shape, np.int32)
    for number, x in enumerate(xs):
        x = contiguous(x)
        device.launch("elementwise", "maximum_index", x.size, x, best, index, x.size, number)
    dxs = []
    for number in range(len(xs)):
        dx = empty(best, best.shape, best.dtype)
        device.launch("elementwise", "maximum_backward", dx.size, dy, index, dx, dx.size, number)
        dxs.append(dx)
    return dxs


def affine(x, scale, shift):
    """y = scale x + shift"""
    return elementwise("elementwise", "affine", [x], scale, shift)


def channel_scale(x, w, b):
    """y = x w + b        x (n, c, *s), w and b (c,) or None"""
    x = contiguous(x)
    y = empty(x, x.shape, x.dtype)
    inner = math.prod(x.shape[2:])
    device.launch("elementwise", "channel_scale", x.size, x, w, b, y, x.size, x.shape[1], inner)
    return y


def channel_scale_backward(x, dy, w, dw, db, want_dx):
    """dx = dy w, dw += Σ x dy, db += Σ dy        w, dw, db may be None"""
    x, dy = contiguous(x), contiguous(dy)
    n, c, inner = x.shape[0], x.shape[1], math.prod(x.shape[2:])
    if dw is not None or db is not None:
        device.launch_blocks("elementwise", "channel_sums", c, x, dy, dw, db, n, c, inner)
    return channel_scale(dy, w, None) if want_dx else None


def power(x, exponent):
    """y = x ** exponent"""
    return elementwise("elementwise", "power", [x], exponent)


def power_backward(x, dy, exponent):
    """dx = dy exponent x ** (exponent - 1)"""
    return elementwise("elementwise", "power_backward", [x, dy], exponent)


def exp(x):
    """y = eˣ"""
    return elementwise("elementwise", "exp_forward", [x])


def exp_backward(x, dy):
    """dx = dy eˣ"""
    return elementwise("elementwise", "exp_backward", [x, dy])


def log(x):
    """y = log x"""
    return elementwise("elementwise", "log_forward", [x])


def log_backward(x, dy):
    """dx = dy / x"""
    return elementwise("elementwise", "log_backward", [x, dy])


def abs(x):
    """y = |x|"""
    return elementwise("elementwise", "abs_forward", [x])


def abs_backward(x, dy):
    """dx = dy sign(x)"""
    return elementwise("elementwise", "abs_backward", [x, dy])


def _fold(kernel, xs):
    """A new y: the xs joined from the left, two at a time."""
    if len(xs) == 1:
        return copy(xs[0])
    y = elementwise("elementwise", kernel, [xs[0], xs[1]])
    for x in xs[2:]:
        x = contiguous(x)
        device.launch("elementwise", kernel, y.size, y, x, y, y.size)
    return y
