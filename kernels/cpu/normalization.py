"""Normalisation by batch statistics and by local energy: C kernels."""

import math

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import native


def batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """y = (x - mean) inv_std w + b, with mean and inv_std = 1/√(var + eps)"""
    if not native.takes(x, w, b, running_mean, running_var):
        options = w, b, running_mean, running_var, momentum, eps, training
        return reference.batch_norm(x, *options)
    x = reference.contiguous(x)
    n, c, s = _sizes(x)
    y, mean, inv_std = np.empty_like(x), np.empty(c, x.dtype), np.empty(c, x.dtype)
    arrays = x, w, b, y, mean, inv_std
    if not training:
        mean[...] = running_mean
        inv_std[...] = 1 / np.sqrt(running_var.astype(np.float64) + eps)
    if x.ndim == 2:
        running = running_mean, running_var, n, c, momentum, eps, training
        native.call("batch_norm_columns", *arrays, *running)
    elif training:
        running = running_mean, running_var, n, c, s, momentum, eps
        native.call("batch_norm_training", *arrays, *running)
    else:
        native.call("batch_norm", *arrays, n, c, s)
    return y, mean, inv_std


def batch_norm_backward(x, dy, w, dw, db, mean, inv_std, training, want_dx):
    """dw += Σ dy x̂, db += Σ dy, dx = w inv_std (dy - (Σ dy + x̂ Σ dy x̂) / m)"""
    if not native.takes(x, dy, w, dw, db, mean, inv_std):
        options = w, dw, db, mean, inv_std, training, want_dx
        return reference.batch_norm_backward(x, dy, *options)
    x, dy = reference.contiguous(x), reference.contiguous(dy)
    dx = np.empty_like(x) if want_dx else None
    arrays = x, dy, w, dw, db, dx, mean, inv_std
    n, c, s = _sizes(x)
    if x.ndim == 2:
        native.call("batch_norm_columns_backward", *arrays, n, c, training)
    else:
        native.call("batch_norm_backward", *arrays, n, c, s, training)
    return dx


def local_response_norm(x, size, alpha, beta, k, within):
    """y = x / (k + alpha/size Σ x²)^beta over `size` channels or size x size positions (within)"""
    if not native.takes(x):
        return reference.local_response_norm(x, size, alpha, beta, k, within)
    x = reference.contiguous(x)
    y = np.empty_like(x)
    native.call("local_response_norm", x, y, *_region(x, size, alpha, within), beta, k)
    return y


def local_response_norm_backward(x, dy, size, alpha, beta, k, within):
    """dx = dy D^-beta - 2 alpha/size beta x Σ dy x D^(-beta-1), D = k + alpha/size Σ x²"""
    if not native.takes(x, dy):
        return reference.local_response_norm_backward(x, dy, size, alpha, beta, k, within)
    x, dy = reference.contiguous(x), reference.contiguous(dy)
    dx, work = np.empty_like(x), np.empty_like(x)
    options = *_region(x, size, alpha, within), beta, k
    native.call("local_response_norm_backward", x, dy, dx, work, *options)
    return dx


def _sizes(x):
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _region(x, size, alpha, within):
    """The sizes and the window that the kernels take, and alpha over the window's size."""
    n, c, s = _sizes(x)
    plane = x.shape[2:] if within else (1, s)
    alpha /= size * size if within else size
    return n, c, *plane, size // 2, (size - 1) // 2, within, alpha
