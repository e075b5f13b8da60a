"""Normalisation by batch statistics and by local energy: C kernels."""

from flambeau.kernels import reference
from flambeau.kernels.cpu import columns, layout, memory, native
from flambeau.kernels.cpu.arrays import readable


def batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """y = (x - mean) inv_std w + b, with mean and inv_std = 1/√(var + eps)"""
    running = running_mean, running_var
    here = not training or native.writes(*running)
    if not (here and native.takes(x, w, b, *running)):
        return reference.batch_norm(x, w, b, *running, momentum, eps, training)
    (x,), (n, c, s) = layout.by_channel(x)
    y, mean, inv_std = layout.empty_like(x), memory.empty(c, x.dtype), memory.empty(c, x.dtype)
    arrays = layout.block(x), readable(w), readable(b), layout.block(y), mean, inv_std
    if training and s > 1:
        native.call("batch_norm_training", *arrays, *running, n, c, s, momentum, eps)
    elif training:
        work, parts = columns.workspace(n, c)
        options = memory.empty(2 * c, x.dtype), n, c, parts, momentum, eps
        native.call("batch_norm_columns_training", *arrays, *running, work, *options)
    else:
        options = memory.empty(2 * c, x.dtype), n, c, s, eps
        native.call("batch_norm", *arrays, *map(readable, running), *options)
    return y, mean, inv_std


def batch_norm_backward(x, dy, w, dw, db, mean, inv_std, training, want_dx):
    """dw += Σ dy x̂, db += Σ dy, dx = w inv_std (dy - (Σ dy + x̂ Σ dy x̂) / m)"""
    if not (native.takes(x, dy, w, dw, db, mean, inv_std) and native.writes(dw, db)):
        options = w, dw, db, mean, inv_std, training, want_dx
        return reference.batch_norm_backward(x, dy, *options)
    (x, dy), (n, c, s) = layout.by_channel(x, dy)
    dx = layout.empty_like(x) if want_dx else None
    arrays = layout.block(x), layout.block(dy), readable(w), dw, db
    arrays = *arrays, dx if dx is None else layout.block(dx), readable(mean), readable(inv_std)
    if s != 1:
        native.call("batch_norm_backward", *arrays, n, c, s, training)
        return dx
    work, parts = columns.workspace(n, c)
    work = work, memory.empty(3 * c, x.dtype)
    native.call("batch_norm_columns_backward", *arrays, *work, n, c, parts, training)
    return dx


def local_response_norm(x, size, alpha, beta, k, within):
    """y = x / (k + alpha/size Σ x²)^beta over `size` channels or size x size positions (within)"""
    if not native.takes(x):
        return reference.local_response_norm(x, size, alpha, beta, k, within)
    (x,), sizes = layout.by_channel(x)
    y = layout.empty_like(x)
    options = *_region(x, sizes, size, alpha, within), beta, k
    native.call("local_response_norm", layout.block(x), layout.block(y), *options)
    return y


def local_response_norm_backward(x, dy, size, alpha, beta, k, within):
    """dx = dy D^-beta - 2 alpha/size beta x Σ dy x D^(-beta-1), D = k + alpha/size Σ x²"""
    if not native.takes(x, dy):
        return reference.local_response_norm_backward(x, dy, size, alpha, beta, k, within)
    (x, dy), sizes = layout.by_channel(x, dy)
    dx, work = layout.empty_like(x), layout.empty_like(x)
    options = *_region(x, sizes, size, alpha, within), beta, k
    arrays = map(layout.block, (x, dy, dx, work))
    native.call("local_response_norm_backward", *arrays, *options)
    return dx


def _region(x, sizes, size, alpha, within):
    """The sizes and the window that the kernels take, and alpha over the window's size.

    Channels that lie innermost in memory are columns of the plane.
    """
    n, c, s = sizes
    low, high = size // 2, (size - 1) // 2
    if not within:
        shape, window = ((n, 1, 1, c), (0, 0, 1)) if s == 1 else ((n, c, 1, s), (1, 0, 0))
        return *shape, low, high, *window, alpha / size
    h, w = x.shape[2:]
    shape, step = ((len(x), 1, h, w * c), c) if s == 1 else ((n, c, h, w), 1)
    return *shape, low, high, 0, 1, step, alpha / size**2
