"""Normalisation by batch statistics and by local energy: C kernels."""

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import columns, layout, native


def batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """y = (x - mean) inv_std w + b, with mean and inv_std = 1/√(var + eps)"""
    if not native.takes(x, w, b, running_mean, running_var):
        options = w, b, running_mean, running_var, momentum, eps, training
        return reference.batch_norm(x, *options)
    (x,), (n, c, s) = layout.by_channel(x)
    y, mean, inv_std = layout.empty_like(x), np.empty(c, x.dtype), np.empty(c, x.dtype)
    arrays = layout.block(x), w, b, layout.block(y), mean, inv_std
    if training and s > 1:
        running = running_mean, running_var, n, c, s, momentum, eps
        native.call("batch_norm_training", *arrays, *running)
        return y, mean, inv_std
    if training:
        mean[...], var = learn(x, running_mean, running_var, momentum, n, c)
    else:
        mean[...], var = running_mean, running_var.astype(np.float64)
    inv_std[...] = 1 / np.sqrt(var + eps)
    native.call("batch_norm", *arrays, n, c, s)
    return y, mean, inv_std


def learn(x, running_mean, running_var, momentum, n, c):
    """The mean and the variance of the columns of x (n, c), by which the running ones move."""
    mean, squares = columns.moments(x, n, c)
    if running_mean is not None:
        running_mean += momentum * (mean - running_mean)
        running_var += momentum * (squares / (n - 1) - running_var)
    return mean, squares / n


def batch_norm_backward(x, dy, w, dw, db, mean, inv_std, training, want_dx):
    """dw += Σ dy x̂, db += Σ dy, dx = w inv_std (dy - (Σ dy + x̂ Σ dy x̂) / m)"""
    if not native.takes(x, dy, w, dw, db, mean, inv_std):
        options = w, dw, db, mean, inv_std, training, want_dx
        return reference.batch_norm_backward(x, dy, *options)
    (x, dy), (n, c, s) = layout.by_channel(x, dy)
    dx = layout.empty_like(x) if want_dx else None
    if s == 1:
        _columns_backward(x, dy, w, dw, db, dx, mean, inv_std, training, n, c)
    else:
        arrays = x, dy, w, dw, db, dx, mean, inv_std
        native.call("batch_norm_backward", *arrays, n, c, s, training)
    return dx


def _columns_backward(x, dy, w, dw, db, dx, mean, inv_std, training, n, c):
    """batch_norm_backward of x (n, c)"""
    inverse, total, product = inv_std.astype(np.float64), 0, 0
    if training or dw is not None or db is not None:
        total, product = columns.sums(x, mean, dy, n, c)
    if db is not None:
        db += total
    if dw is not None:
        dw += product * inverse
    if dx is None:
        return
    scale = inv_std if w is None else inv_std * w
    if training:
        centre, slope = (v.astype(x.dtype) for v in (total / n, product * inverse**2 / n))
        arrays = *map(layout.block, (x, dy, dx)), mean, scale, centre, slope
        native.call("batch_norm_columns_backward", *arrays, n, c)
    else:
        native.call("channel_scale", layout.block(dy), scale, None, layout.block(dx), n, c, 1)


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
