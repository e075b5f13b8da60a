"""Normalisation by batch statistics and by local energy."""

import math

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.activation import relu, relu_backward
from flambeau.kernels.cuda.arrays import contiguous, copy, empty
from flambeau.kernels.cuda.elementwise import add


def batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """y = (x - mean) inv_std w + b, with mean and inv_std        x (n, c, *s), the others (c,)"""
    x = contiguous(x)
    n, c, inner = _sizes(x)
    inv_std = empty(x, (c,), x.dtype)
    if training:
        mean = empty(x, (c,), x.dtype)
        arrays = x, mean, inv_std, running_mean, running_var
        device.launch_blocks(
            "normalization", "batch_statistics", c, *arrays, n, c, inner, momentum, eps
        )
    else:
        mean = copy(running_mean)
        device.launch("normalization", "inverse_root", c, running_var, inv_std, c, eps)
    y = empty(x, x.shape, x.dtype)
    arrays = x, w, b, mean, inv_std, y
    device.launch("normalization", "batch_norm", x.size, *arrays, x.size, c, inner)
    return y, mean, inv_std


def batch_norm_backward(x, dy, w, dw, db, mean, inv_std, training, want_dx):
    """The gradients of batch_norm: dw and db (or None) are added to, dx is new"""
    x, dy = contiguous(x), contiguous(dy)
    n, c, inner = _sizes(x)
    sums = empty(x, (2, c), x.dtype)
    arrays = x, dy, mean, inv_std, sums, dw, db
    device.launch_blocks("normalization", "batch_norm_sums", c, *arrays, n, c, inner)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    arrays = x, dy, w, mean, inv_std, sums if training else None, dx
    device.launch("normalization", "batch_norm_backward", x.size, *arrays, x.size, c, inner)
    return dx


def batch_norm_relu(x, other, w, b, running_mean, running_var, momentum, eps):
    """y = max(batch_norm(x) + other, 0) by the batch's statistics; other may be None"""
    y, mean, inv_std = batch_norm(x, w, b, running_mean, running_var, momentum, eps, True)
    return relu(y if other is None else add([y, other])), mean, inv_std


def batch_norm_relu_backward(x, y, dy, w, b, dw, db, mean, inv_std, want_dx, added):
    """(dx, dother) of batch_norm_relu, dw += …, db += …        dw, db may be None"""
    dy = relu_backward(y, dy)
    dx = batch_norm_backward(x, dy, w, dw, db, mean, inv_std, True, want_dx)
    return dx, dy if added else None


def local_response_norm(x, size, alpha, beta, k, within):
    """y = x / (k + alpha/size Σ x²)^beta over `size` channels, or size² neighbours (within)"""
    x = contiguous(x)
    scale, _, _ = _scale(x, size, alpha, k, within)
    y = empty(x, x.shape, x.dtype)
    device.launch("normalization", "response_norm", x.size, x, scale, y, x.size, beta)
    return y


def local_response_norm_backward(x, dy, size, alpha, beta, k, within):
    """dx of local_response_norm"""
    x, dy = contiguous(x), contiguous(dy)
    scale, sizes, alpha = _scale(x, size, alpha, k, within)
    dx = empty(x, x.shape, x.dtype)
    arrays = x, dy, scale, dx
    device.launch("normalization", "response_norm_backward", x.size, *arrays, *sizes, alpha, beta)
    return dx


def _scale(x, size, alpha, k, within):
    """k + alpha/size Σ x², the sizes that its kernels take, and alpha/size (size² within)."""
    n, c, inner = _sizes(x)
    h, w = x.shape[2:] if within else (inner, 1)
    sizes = x.size, c, h, w, size // 2, (size - 1) // 2, int(within)
    alpha = alpha / (size**2 if within else size)
    scale = empty(x, x.shape, x.dtype)
    device.launch("normalization", "response_scale", x.size, x, scale, *sizes, alpha, k)
    return scale, sizes, alpha


def _sizes(x):
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])
