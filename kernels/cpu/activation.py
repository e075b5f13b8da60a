"""Functions of one value, applied to every element: C kernels."""

import math

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import native


def relu(x):
    """y = max(x, 0)"""
    return _forward("relu", x)


def relu_backward(x, dy):
    """dx = dy where x > 0, else 0"""
    return _backward("relu_backward", x, dy)


def clamp(x, low, high):
    """y = x held within [low, high]"""
    return _forward("clamp", x, low, high)


def clamp_backward(x, dy, low, high):
    """dx = dy where low < x < high, else 0"""
    return _backward("clamp_backward", x, dy, low, high)


def leaky_relu(x, slope):
    """y = x where x > 0, else slope · x"""
    return _forward("leaky_relu", x, slope)


def leaky_relu_backward(x, dy, slope):
    """dx = dy where x > 0, else slope · dy"""
    return _backward("leaky_relu_backward", x, dy, slope)


def prelu(x, w):
    """y = x where x > 0, else w x"""
    if not native.takes(x, w):
        return reference.prelu(x, w)
    x, w = reference.contiguous(x), reference.contiguous(w)
    y = np.empty_like(x)
    native.call("prelu", x, w, y, *_planes(x, w))
    return y


def prelu_backward(x, dy, w, dw, want_dx):
    """dx = dy where x > 0, else w dy; dw += Σ dy x over x ≤ 0"""
    if not native.takes(x, dy, w, dw):
        return reference.prelu_backward(x, dy, w, dw, want_dx)
    x, dy, w = (reference.contiguous(a) for a in (x, dy, w))
    if dw is not None:
        native.call("prelu_slopes", x, dy, dw, *_planes(x, w))
    if not want_dx:
        return None
    dx = np.empty_like(x)
    native.call("prelu_backward", x, dy, w, dx, *_planes(x, w))
    return dx


def _planes(x, w):
    """x as (n, c, s) with c = len(w)"""
    if len(w) > 1:
        return x.shape[0], x.shape[1], math.prod(x.shape[2:])
    last = x.shape[-1] if x.ndim else 1
    return x.size // max(last, 1), 1, last


def elu(x, alpha):
    """y = x where x > 0, else alpha · (eˣ − 1)"""
    return _forward("elu", x, alpha)


def elu_backward(x, dy, alpha):
    """dx = dy where x > 0, else alpha · eˣ dy"""
    return _backward("elu_backward", x, dy, alpha)


def sigmoid(x):
    """y = 1 / (1 + e⁻ˣ)"""
    return _forward("sigmoid", x)


def sigmoid_backward(x, dy):
    """dx = dy y (1 − y)"""
    return _backward("sigmoid_backward", x, dy)


def tanh(x):
    """y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)"""
    return _forward("tanh", x)


def tanh_backward(x, dy):
    """dx = dy (1 − y²)"""
    return _backward("tanh_backward", x, dy)


def softplus(x, beta):
    """y = ln(1 + e^(beta · x)) / beta"""
    return _forward("softplus", x, beta)


def softplus_backward(x, dy, beta):
    """dx = dy / (1 + e^(−beta · x))"""
    return _backward("softplus_backward", x, dy, beta)


def _forward(name, x, *options):
    """A kernel from x to y."""
    if not native.takes(x):
        return getattr(reference, name)(x, *options)
    x = reference.contiguous(x)
    y = np.empty_like(x)
    native.call(name, x, y, *options, x.size)
    return y


def _backward(name, x, dy, *options):
    """A kernel from x and dy to dx."""
    if not native.takes(x, dy):
        return getattr(reference, name)(x, dy, *options)
    x, dy = reference.contiguous(x), reference.contiguous(dy)
    dx = np.empty_like(x)
    native.call(name, x, dy, dx, *options, x.size)
    return dx
