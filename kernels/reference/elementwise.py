"""Sums, products and powers, element by element."""

import numpy as np


def add(xs):
    """y = x_0 + x_1 + …, arrays of one shape; always a new array"""
    y = xs[0].copy(order="C")
    for x in xs[1:]:
        y += x
    return y


def mul(xs):
    """y = x_0 · x_1 · …"""
    y = xs[0].copy(order="C")
    for x in xs[1:]:
        y *= x
    return y


def mul_backward(xs, dy):
    """dx_i = dy · Π x_j over j ≠ i"""
    return [mul([dy, *xs[:i], *xs[i + 1 :]]) for i in range(len(xs))]


def maximum(xs):
    """y = max(x_0, x_1, …); NaN stays NaN"""
    y = xs[0].copy(order="C")
    for x in xs[1:]:
        np.maximum(y, x, out=y)
    return y


def maximum_backward(xs, dy):
    """dx_i = dy where x_i is the greatest, the first of equals; else 0"""
    y, left, dxs = maximum(xs), dy, []
    for x in xs:
        here = x == y
        dxs.append(np.where(here, left, dy.dtype.type(0)))
        left = np.where(here, dy.dtype.type(0), left)
    return dxs


def affine(x, scale, shift):
    """y = scale · x + shift        scale, shift Python numbers"""
    return x * scale + shift


def channel_scale(x, w, b):
    """y = w x + b in each channel        x (n, c, *s), w (c,) or None, b (c,) or None"""
    y = x.copy(order="C")
    shape = (-1,) + (1,) * (x.ndim - 2)
    if w is not None:
        y *= w.reshape(shape)
    if b is not None:
        y += b.reshape(shape)
    return y


def channel_scale_backward(x, dy, w, dw, db, want_dx):
    """dx = w dy, dw += Σ dy x, db += Σ dy over all but the channels        dw, db may be None"""
    axes = (0, *range(2, x.ndim))
    if dw is not None:
        dw += (dy * x).sum(axes)
    if db is not None:
        db += dy.sum(axes)
    return channel_scale(dy, w, None) if want_dx else None


def power(x, exponent):
    """y = x^exponent        exponent a Python number"""
    with np.errstate(all="ignore"):
        return x**exponent


def power_backward(x, dy, exponent):
    """dx = dy · exponent · x^(exponent − 1), 0 for exponent 0"""
    if exponent == 0:
        return np.zeros_like(dy, order="C")
    with np.errstate(all="ignore"):
        return dy * exponent * x ** (exponent - 1)


def exp(x):
    """y = eˣ"""
    with np.errstate(over="ignore"):
        return np.exp(x)


def exp_backward(x, dy):
    """dx = dy eˣ"""
    with np.errstate(over="ignore", invalid="ignore"):
        return dy * np.exp(x)


def log(x):
    """y = ln x; −∞ at 0, NaN below"""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def log_backward(x, dy):
    """dx = dy / x"""
    with np.errstate(divide="ignore", invalid="ignore"):
        return dy / x


def abs(x):
    """y = |x|"""
    return np.abs(x)


def abs_backward(x, dy):
    """dx = dy · sign x, 0 at 0"""
    return dy * np.sign(x)
