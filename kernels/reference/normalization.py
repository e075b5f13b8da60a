"""Normalisation by batch statistics and by local energy."""

import numpy as np

from flambeau.kernels.reference.activation import relu, relu_backward
from flambeau.kernels.reference.pooling import max_pool2d, max_pool2d_backward


def batch_norm(x, w, b, running_mean, running_var, momentum, eps, training):
    """y = (x - mean) inv_std w + b, with mean and inv_std = 1/√(var + eps)

    x (n, c, *s); w, b, running_mean, running_var (c,) or None. In training mean and var are the
    batch's, and the running ones move by momentum towards them (var unbiased); else they are the
    running ones.
    """
    if training:
        axes, size = _axes(x), x.size // x.shape[1]
        mean = x.mean(axes, dtype=np.float64)
        var = np.square(x - _channels(mean, x)).mean(axes)
        if running_mean is not None:
            running_mean += momentum * (mean - running_mean)
            running_var += momentum * (var * size / (size - 1) - running_var)
    else:
        mean, var = running_mean.astype(np.float64), running_var.astype(np.float64)
    inv_std = 1 / np.sqrt(var + eps)
    y = (x - _channels(mean, x)) * _channels(inv_std if w is None else inv_std * w, x)
    if b is not None:
        y += _channels(b, x)
    return y.astype(x.dtype), mean.astype(x.dtype), inv_std.astype(x.dtype)


def batch_norm_backward(x, dy, w, dw, db, mean, inv_std, training, want_dx):
    """dw += Σ dy x̂, db += Σ dy, dx = w inv_std (dy - (Σ dy + x̂ Σ dy x̂) / m)

    with x̂ = (x - mean) inv_std and m values a channel; outside of training dx = w inv_std dy.
    dw, db may be None.
    """
    axes, size = _axes(x), x.size // x.shape[1]
    normal = (x - _channels(mean, x)) * _channels(inv_std, x)
    sums = dy.sum(axes)
    products = (dy * normal).sum(axes)
    if db is not None:
        db += sums
    if dw is not None:
        dw += products
    if not want_dx:
        return None
    if training:
        dy = dy - (_channels(sums, x) + normal * _channels(products, x)) / dy.dtype.type(size)
    dx = dy * _channels(inv_std if w is None else inv_std * w, x)
    return dx.astype(x.dtype, copy=False)


def batch_norm_relu(x, other, w, b, running_mean, running_var, momentum, eps):
    """y = max(batch_norm(x) + other, 0) by the batch's statistics; other may be None

    Also what backward takes: mean, inv_std and, if need be, what else a package keeps.
    x (n, c, *s), other likewise
    """
    y, *saved = batch_norm(x, w, b, running_mean, running_var, momentum, eps, True)
    return relu(y if other is None else y + other), tuple(saved)


def batch_norm_relu_backward(x, y, dy, w, b, dw, db, saved, want_dx, added):
    """(dx, dother) of batch_norm_relu, which gave y and saved; dw += …, db += …, or None

    dx is None without want_dx; added: whether there was `other`, dother is None without.
    """
    dy = relu_backward(y, dy)
    dx = batch_norm_backward(x, dy, w, dw, db, *saved[:2], True, want_dx)
    return dx, dy if added else None


def batch_norm_pair_relu(x, other, norm, beside):
    """y = max(batch_norm(x) + batch_norm(other), 0) by the batch's statistics

    Also what backward takes: mean and inv_std of both and, if need be, what else a package keeps.
    norm, beside: w, b, running_mean, running_var, momentum and eps for x, and for other, which is
    of the shape of x.
    """
    y, *saved = batch_norm(x, *norm, True)
    z, *more = batch_norm(other, *beside, True)
    return relu(y + z), (*saved, *more)


def batch_norm_pair_relu_backward(x, other, y, dy, norm, beside, saved):
    """(dx, dother) of batch_norm_pair_relu, which gave y and saved; dw += …, db += …, or None

    norm, beside: w, dw, db and whether the gradient is wanted, else it is None
    """
    dy, found = relu_backward(y, dy), []
    for a, (*learned, want), at in (x, norm, saved[:2]), (other, beside, saved[2:4]):
        found.append(batch_norm_backward(a, dy, *learned, *at, True, want))
    return tuple(found)


def batch_norm_pool_relu(x, norm, pool):
    """y = the greatest of max(batch_norm(x), 0) over windows, and what backward takes

    norm: w, b, running_mean, running_var, momentum and eps; pool: what max_pool2d takes, without
    dilation. x (n, c, h, w)
    """
    z, *saved = batch_norm(x, *norm, True)
    y, index = max_pool2d(z, *pool, True)
    return relu(y), (*saved, index)


def batch_norm_pool_relu_backward(x, y, dy, norm, pool, saved):
    """dx of batch_norm_pool_relu, which gave y and saved; dw += …, db += …, or None

    norm: w, dw, db and whether dx is wanted, else it is None
    """
    (*learned, want), (mean, inv_std, index, *_) = norm, saved
    dz = max_pool2d_backward(relu_backward(y, dy), index, x.shape[2:])
    return batch_norm_backward(x, dz, *learned, mean, inv_std, True, want)


def local_response_norm(x, size, alpha, beta, k, within):
    """y = x / (k + alpha/size Σ x²)^beta over `size` channels, or size x size neighbours (within)

    x (n, c, *s), (n, c, h, w) within. The window goes from size//2 before to (size - 1)//2 after;
    outside of x are zeros, which count. Within, alpha is divided by size².
    """
    return x * _scale(x, size, alpha, k, within) ** -beta


def local_response_norm_backward(x, dy, size, alpha, beta, k, within):
    """dx = dy D^-beta - 2 alpha/size beta x Σ dy x D^(-beta-1), D = k + alpha/size Σ x²

    The last sum is over the windows that hold x.
    """
    scale = _scale(x, size, alpha, k, within)
    factor = 2 * beta * alpha / size ** (2 if within else 1)
    sums = _neighbours(dy * x * scale ** (-beta - 1), (size - 1) // 2, size // 2, within)
    return dy * scale**-beta - factor * x * sums


def _scale(x, size, alpha, k, within):
    sums = _neighbours(np.square(x), size // 2, (size - 1) // 2, within)
    return k + alpha / size ** (2 if within else 1) * sums


def _neighbours(x, low, high, within):
    """Sums over windows from `low` before to `high` after, of channels or in the plane."""
    for axis in (2, 3) if within else (1,):
        count = x.shape[axis]
        pads = [(low, high) if i == axis else (0, 0) for i in range(x.ndim)]
        padded = np.moveaxis(np.pad(x, pads), axis, 0)
        x = np.moveaxis(sum(padded[i : i + count] for i in range(low + high + 1)), 0, axis)
    return x


def _axes(x):
    """All axes but that of the channels."""
    return (0, *range(2, x.ndim))


def _channels(v, x):
    """v (c,) as (c, 1, …), which broadcasts over x (n, c, *s)."""
    return v.reshape(-1, *[1] * (x.ndim - 2))
