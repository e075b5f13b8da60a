"""Sums, products and powers, element by element: C kernels."""

from flambeau.kernels import reference
from flambeau.kernels.cpu import columns, layout, native
from flambeau.kernels.cpu.arrays import in_place, readable


def add(xs):
    """y = x_0 + x_1 + …, always a new array"""
    return _fold("add", xs) if native.takes(*xs) else reference.add(xs)


def mul(xs):
    """y = x_0 · x_1 · …"""
    return _fold("mul", xs) if native.takes(*xs) else reference.mul(xs)


def mul_backward(xs, dy):
    """dx_i = dy · Π x_j over j ≠ i"""
    return [mul([dy, *xs[:i], *xs[i + 1 :]]) for i in range(len(xs))]


def maximum(xs):
    """y = max(x_0, x_1, …)"""
    return _fold("maximum", xs) if native.takes(*xs) else reference.maximum(xs)


def maximum_backward(xs, dy):
    """dx_i = dy where x_i is the greatest, the first of equals; else 0"""
    if not native.takes(*xs, dy):
        return reference.maximum_backward(xs, dy)
    xs = layout.alike(*xs)
    y, left, dxs = maximum(xs), layout.copied(dy, xs[0]), []
    for x in xs:
        dx = layout.empty_like(x)
        native.call("maximum_backward", *map(layout.block, (x, y, left, dx)), x.size)
        dxs.append(dx)
    return dxs


def _fold(name, xs):
    """Join arrays two by two, from left to right."""
    x, *rest = layout.alike(*xs)
    if not rest:
        return layout.copied(x, x)
    y = layout.empty_like(x)
    for other in rest:
        native.call(name, *map(layout.block, (x, other, y)), y.size)
        x = y
    return y


def affine(x, scale, shift):
    """y = scale · x + shift"""
    if not native.takes(x):
        return reference.affine(x, scale, shift)
    return _one("affine", x, scale, shift)


def channel_scale(x, w, b):
    """y = w x + b in each channel"""
    if not native.takes(x, w, b):
        return reference.channel_scale(x, w, b)
    w, b = readable(w), readable(b)
    (x,), sizes = layout.by_channel(x)
    y = layout.empty_like(x)
    native.call("channel_scale", layout.block(x), w, b, layout.block(y), *sizes)
    return y


def channel_scale_backward(x, dy, w, dw, db, want_dx):
    """dx = w dy, dw += Σ dy x, db += Σ dy"""
    if not native.takes(x, dy, w, dw, db):
        return reference.channel_scale_backward(x, dy, w, dw, db, want_dx)
    if dw is not None or db is not None:
        (x, dy), sizes = layout.by_channel(x, dy)
        _add_channel_sums(x, dy, dw, db, *sizes)
    return channel_scale(dy, w, None) if want_dx else None


def _add_channel_sums(x, dy, dw, db, n, c, s):
    """dw += Σ dy x, db += Σ dy"""
    if s != 1:
        with in_place(dw, db) as sums:
            native.call("channel_scale_sums", x, dy, *sums, n, c, s)
    else:
        columns.add_sums(x, dy, dw, db, n, c, False)


def power(x, exponent):
    """y = x^exponent"""
    return _one("power", x, exponent) if native.takes(x) else reference.power(x, exponent)


def power_backward(x, dy, exponent):
    """dx = dy · exponent · x^(exponent − 1)"""
    if exponent == 0 or not native.takes(x, dy):
        return reference.power_backward(x, dy, exponent)
    return affine(mul([dy, power(x, exponent - 1)]), exponent, 0.0)


def exp(x):
    """y = eˣ"""
    return _one("exp", x) if native.takes(x) else reference.exp(x)


def exp_backward(x, dy):
    """dx = dy eˣ"""
    return mul([dy, exp(x)])


def log(x):
    """y = ln x"""
    return _one("log", x) if native.takes(x) else reference.log(x)


def log_backward(x, dy):
    """dx = dy / x"""
    return _two("log_backward", x, dy) if native.takes(x, dy) else reference.log_backward(x, dy)


def abs(x):
    """y = |x|"""
    return _one("abs", x) if native.takes(x) else reference.abs(x)


def abs_backward(x, dy):
    """dx = dy · sign x"""
    return _two("abs_backward", x, dy) if native.takes(x, dy) else reference.abs_backward(x, dy)


def _one(name, x, *options):
    """A kernel from x to y."""
    (x,) = layout.alike(x)
    y = layout.empty_like(x)
    native.call(name, layout.block(x), layout.block(y), *options, x.size)
    return y


def _two(name, x, dy):
    """A kernel from x and dy to dx."""
    x, dy = layout.alike(x, dy)
    dx = layout.empty_like(x)
    native.call(name, *map(layout.block, (x, dy, dx)), x.size)
    return dx
