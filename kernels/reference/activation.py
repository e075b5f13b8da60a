"""Functions of one value, applied to every element."""

import numpy as np


def relu(x):
    """y = max(x, 0); NaN stays NaN"""
    return np.maximum(x, 0)


def relu_backward(x, dy):
    """dx = dy where x > 0, else 0"""
    return np.where(x > 0, dy, dy.dtype.type(0))


def clamp(x, low, high):
    """y = x held within [low, high]; NaN stays NaN"""
    return np.clip(x, low, high)


def clamp_backward(x, dy, low, high):
    """dx = dy where low < x < high, else 0"""
    return np.where((x > low) & (x < high), dy, dy.dtype.type(0))


def leaky_relu(x, slope):
    """y = x where x > 0, else slope · x"""
    return np.where(x > 0, x, x * slope)


def leaky_relu_backward(x, dy, slope):
    """dx = dy where x > 0, else slope · dy"""
    return np.where(x > 0, dy, dy * slope)


def prelu(x, w):
    """y = x where x > 0, else w x        w (1,), or (c,) for x (n, c, *s)"""
    return np.where(x > 0, x, x * _per_channel(x, w))


def prelu_backward(x, dy, w, dw, want_dx):
    """dx = dy where x > 0, else w dy; dw += Σ dy x over x ≤ 0        dw may be None"""
    if dw is not None:
        axes = (0, *range(2, x.ndim)) if len(w) > 1 else None
        dw += np.where(x > 0, dy.dtype.type(0), dy * x).sum(axes)
    return np.where(x > 0, dy, dy * _per_channel(x, w)) if want_dx else None


def _per_channel(x, w):
    return w.reshape(-1, *(1,) * (x.ndim - 2)) if len(w) > 1 else w[0]


def elu(x, alpha):
    """y = x where x > 0, else alpha · (eˣ − 1)"""
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * alpha)


def elu_backward(x, dy, alpha):
    """dx = dy where x > 0, else alpha · eˣ dy"""
    return np.where(x > 0, dy, dy * np.exp(np.minimum(x, 0)) * alpha)


def sigmoid(x):
    """y = 1 / (1 + e⁻ˣ), with no overflow for any x"""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, e.dtype.type(1)) / (1 + e)


def sigmoid_backward(x, dy):
    """dx = dy y (1 − y) = dy e⁻ˣ / (1 + e⁻ˣ)²"""
    e = np.exp(-np.abs(x))
    return dy * e / (1 + e) ** 2


def tanh(x):
    """y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)"""
    return np.tanh(x)


def tanh_backward(x, dy):
    """dx = dy (1 − y²)"""
    return dy * (1 - np.tanh(x) ** 2)


def softplus(x, beta):
    """y = ln(1 + e^(beta · x)) / beta, with no overflow for any x"""
    z = x * beta
    return (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / beta


def softplus_backward(x, dy, beta):
    """dx = dy / (1 + e^(−beta · x))"""
    return dy * sigmoid(x * beta)
