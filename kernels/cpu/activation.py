"""Functions of one value, applied to every element: C kernels."""

from flambeau.kernels import reference
from flambeau.kernels.cpu import columns, layout, memory, native
from flambeau.kernels.cpu.arrays import contiguous, in_place

_LARGE = 1 << 14  # numbers


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
    (x,), sizes = _by_slope(w, x)
    y = layout.empty_like(x)
    native.call("prelu", layout.block(x), contiguous(w), layout.block(y), *sizes)
    return y


def prelu_backward(x, dy, w, dw, want_dx):
    """dx = dy where x > 0, else w dy; dw += Σ dy x over x ≤ 0"""
    if not native.takes(x, dy, w, dw):
        return reference.prelu_backward(x, dy, w, dw, want_dx)
    (x, dy), sizes = _by_slope(w, x, dy)
    blocks = layout.block(x), layout.block(dy)
    if dw is not None:
        _add_slopes(x, dy, dw, *sizes)
    if not want_dx:
        return None
    dx = layout.empty_like(x)
    native.call("prelu_backward", *blocks, contiguous(w), layout.block(dx), *sizes)
    return dx


def _add_slopes(x, dy, dw, n, c, s):
    """dw += Σ dy x over x ≤ 0"""
    if s != 1:
        with in_place(dw) as sums:
            native.call("prelu_slopes", layout.block(x), layout.block(dy), *sums, n, c, s)
    else:
        columns.add_sums(x, dy, dw, None, n, c, True)


def _by_slope(w, *xs):
    """Arrays in one memory order, and their sizes (n, c, s) with c = len(w)."""
    if len(w) > 1:
        return layout.by_channel(*xs)
    xs = layout.alike(*xs)
    last = xs[0].shape[-1] if xs[0].ndim else 1
    return xs, (xs[0].size // max(last, 1), 1, last)


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
    if layout.plain(x):
        y = memory.empty(x.shape, x.dtype)
        native.call(name, x, y, *options, x.size)
        return y
    if _in_blocks(x):
        y = memory.empty(x.shape, x.dtype)
        for one, to in zip(x, y, strict=True):
            native.call(name, one, to, *options, one.size)
        return y
    (x,) = layout.alike(x)
    y = layout.empty_like(x)
    native.call(name, layout.block(x), layout.block(y), *options, x.size)
    return y


def _backward(name, x, dy, *options):
    """A kernel from x and dy to dx."""
    if not native.takes(x, dy):
        return getattr(reference, name)(x, dy, *options)
    if layout.plain(x, dy):
        dx = memory.empty(x.shape, x.dtype)
        native.call(name, x, dy, dx, *options, x.size)
        return dx
    if _in_blocks(x, dy):
        dx = memory.empty(x.shape, x.dtype)
        for parts in zip(x, dy, dx, strict=True):
            native.call(name, *parts, *options, parts[0].size)
        return dx
    x, dy = layout.alike(x, dy)
    dx = layout.empty_like(x)
    native.call(name, *map(layout.block, (x, dy, dx)), *options, x.size)
    return dx


def _in_blocks(x, *others):
    """True for parts of larger arrays whose entries along axis 0 are large blocks in C order.

    The entries are then taken one by one as they lie: a copy would cost more than the calls.
    """
    if x.flags.c_contiguous or x.ndim < 2 or x.size < len(x) * _LARGE:
        return False
    return len(x) > 0 and all(a.flags.aligned and a[0].flags.c_contiguous for a in (x, *others))
