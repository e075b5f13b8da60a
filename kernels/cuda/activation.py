"""Functions of one value, applied to every element."""

import math

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, elementwise, empty


def relu(x):
    """y = max(x, 0)"""
    return elementwise("activation", "relu", [x])


def relu_backward(x, dy):
    """dx = dy where x > 0, else 0"""
    return elementwise("activation", "relu_backward", [x, dy])


def clamp(x, low, high):
    """y = min(max(x, low), high)"""
    return elementwise("activation", "clamp", [x], low, high)


def clamp_backward(x, dy, low, high):
    """dx = dy where low < x < high, else 0"""
    return elementwise("activation", "clamp_backward", [x, dy], low, high)


def leaky_relu(x, slope):
    """y = x where x > 0, else slope x"""
    return elementwise("activation", "leaky_relu", [x], slope)


def leaky_relu_backward(x, dy, slope):
    """dx = dy where x > 0, else slope dy"""
    return elementwise("activation", "leaky_relu_backward", [x, dy], slope)


def elu(x, alpha):
    """y = x where x > 0, else alpha (eˣ - 1)"""
    return elementwise("activation", "elu", [x], alpha)


def elu_backward(x, dy, alpha):
    """dx = dy where x > 0, else alpha eˣ dy"""
    return elementwise("activation", "elu_backward", [x, dy], alpha)


def sigmoid(x):
    """y = 1 / (1 + e⁻ˣ)"""
    return elementwise("activation", "sigmoid", [x])


def sigmoid_backward(x, dy):
    """dx = dy y (1 - y)"""
    return elementwise("activation", "sigmoid_backward", [x, dy])


def tanh(x):
    """y = tanh(x)"""
    return elementwise("activation", "tanh_forward", [x])


def tanh_backward(x, dy):
    """dx = dy (1 - y²)"""
    return elementwise("activation", "tanh_backward", [x, dy])


def softplus(x, beta):
    """y = log(1 + e^(beta x)) / beta"""
    return elementwise("activation", "softplus", [x], beta)


def softplus_backward(x, dy, beta):
    """dx = dy / (1 + e^(-beta x))"""
    return elementwise("activation", "softplus_backward", [x, dy], beta)


def prelu(x, w):
    """y = x where x > 0, else w x        x (n, c, *s), w (c,) or (1,)"""
    x = contiguous(x)
    w, c, inner = _slopes(x, w)
    y = empty(x, x.shape, x.dtype)
    device.launch("activation", "prelu", x.size, x, w, y, x.size, c, inner)
    return y


def prelu_backward(x, dy, w, dw, want_dx):
    """dx = dy where x > 0, else w dy; dw += Σ x dy where x <= 0"""
    x, dy = contiguous(x), contiguous(dy)
    w, c, inner = _slopes(x, w)
    if dw is not None:
        outer = x.size // max(c * inner, 1)
        device.launch_blocks("activation", "prelu_slope", c, x, dy, dw, outer, c, inner)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    device.launch("activation", "prelu_backward", x.size, x, dy, w, dx, x.size, c, inner)
    return dx


def _slopes(x, w):
    """w with the number of slopes and of the elements that share one in a row."""
    c = w.shape[0]
    return contiguous(w), c, math.prod(x.shape[2:]) if c > 1 else max(x.size, 1)
