"""Normalisation by batch statistics and by local energy."""

import math

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.activation import relu, relu_backward
from flambeau.kernels.cuda.arrays import contiguous, copy, empty
from flambeau.kernels.cuda.pooling import max_pool2d, max_pool2d_backward

_BLOCKS = 1024  # sums of fewer channels are taken in parts, a block each


def batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """y = (x - mean) inv_std w + b, with mean and inv_std        x (n, c, *s), the others (c,)"""
    x = contiguous(x)
    if training:
        mean, inv_std = _statistics(x, running_mean, running_var, momentum, eps)
    else:
        mean, inv_std = copy(running_mean), empty(x, running_var.shape, x.dtype)
        c = inv_std.size
        device.launch("normalization", "inverse_root", c, running_var, inv_std, c, eps)
    return _normalized(x, None, w, b, mean, inv_std, False), mean, inv_std


def batch_norm_backward(x, dy, w, dw, db, mean, inv_std, training, want_dx):
    """The gradients of batch_norm: dw and db (or None) are added to, dx is new"""
    x, dy = contiguous(x), contiguous(dy)
    return _backward(x, None, dy, w, dw, db, mean, inv_std, training, want_dx, False)[0]


def batch_norm_relu(x, other, w, b, running_mean, running_var, momentum, eps):
    """y = max(batch_norm(x) + other, 0) by the batch's statistics, and what backward takes"""
    x, other = contiguous(x), None if other is None else contiguous(other)
    mean, inv_std = _statistics(x, running_mean, running_var, momentum, eps)
    return _normalized(x, other, w, b, mean, inv_std, True), (mean, inv_std)


def batch_norm_relu_backward(x, y, dy, w, b, dw, db, saved, want_dx, added):
    """(dx, dother) of batch_norm_relu, which gave y and saved; dw += …, db += …, or None"""
    x, y, dy = contiguous(x), contiguous(y), contiguous(dy)
    return _backward(x, y, dy, w, dw, db, *saved, True, want_dx, added)


def batch_norm_pair_relu(x, other, norm, beside):
    """y = max(batch_norm(x) + batch_norm(other), 0), and what backward takes"""
    z, *more = batch_norm(other, *beside, True)
    y, saved = batch_norm_relu(x, z, *norm)
    return y, (*saved, *more)


def batch_norm_pair_relu_backward(x, other, y, dy, norm, beside, saved):
    """(dx, dother) of batch_norm_pair_relu, which gave y and saved; dw += …, db += …, or None"""
    (w, dw, db, want), (*learned, want_other) = norm, beside
    dx, g = batch_norm_relu_backward(x, y, dy, w, None, dw, db, saved[:2], want, True)
    return dx, batch_norm_backward(other, g, *learned, *saved[2:], True, want_other)


def batch_norm_pool_relu(x, norm, pool):
    """y = the greatest of max(batch_norm(x), 0) over windows, and what backward takes"""
    z, *saved = batch_norm(x, *norm, True)
    y, index = max_pool2d(z, *pool, True)
    return relu(y), (*saved, index)


def batch_norm_pool_relu_backward(x, y, dy, norm, pool, saved):
    """dx of batch_norm_pool_relu, which gave y and saved; dw += …, db += …, or None"""
    (*learned, want), (mean, inv_std, index, *_) = norm, saved
    dz = max_pool2d_backward(relu_backward(y, dy), index, x.shape[2:])
    return batch_norm_backward(x, dz, *learned, mean, inv_std, True, want)


def _statistics(x, running_mean, running_var, momentum, eps):
    """The mean and the inverse deviation of each channel; the running ones move."""
    n, c, inner = _sizes(x)
    count = _parts(n, c)
    parts = [empty(x, (count, c), x.dtype) for _ in range(2)]
    device.launch_blocks("normalization", "batch_parts", c * count, x, *parts, n, c, inner, count)
    mean, inv_std = (empty(x, (c,), x.dtype) for _ in range(2))
    arrays = *parts, mean, inv_std, running_mean, running_var
    options = n, c, inner, count, momentum, eps
    device.launch("normalization", "batch_statistics", c, *arrays, *options)
    return mean, inv_std


def _normalized(x, other, w, b, mean, inv_std, is_relu):
    n, c, inner = _sizes(x)
    y = empty(x, x.shape, x.dtype)
    arrays = x, other, w, b, mean, inv_std, y
    sizes = n * c, c, inner, int(is_relu)
    device.launch("normalization", "batch_norm", x.size, *arrays, *sizes)
    return y


def _backward(x, y, dy, w, dw, db, mean, inv_std, training, want_dx, added):
    """dx and dother, or None; y: what a ReLU behind the layer gave, or None"""
    n, c, inner = _sizes(x)
    count = _parts(n, c)
    parts, sums = (empty(x, (2, rows, c), x.dtype) for rows in (count, 1))
    arrays = x, y, dy, mean, inv_std, parts
    blocks = c * count
    device.launch_blocks("normalization", "batch_norm_parts", blocks, *arrays, n, c, inner, count)
    device.launch("normalization", "batch_norm_sums", c, parts, sums, dw, db, c, count)
    if not want_dx:
        return None, relu_backward(y, dy) if added else None
    dx, dother = empty(x, x.shape, x.dtype), empty(x, x.shape, x.dtype) if added else None
    arrays = x, y, dy, w, mean, inv_std, sums if training else None, dx, dother
    device.launch("normalization", "batch_norm_backward", x.size, *arrays, n * c, c, inner)
    return dx, dother


def _parts(n, c):
    """Into how many parts the images go, so that there are blocks for a whole GPU."""
    return max(1, min(n, _BLOCKS // max(c, 1)))


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
