"""Losses: sums over all elements, and their gradients."""

import math

import numpy as np

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import cast, contiguous, elementwise, empty, numpy

_PARTS = 64  # sums are taken in so many blocks, and the rest on the host


def nll_loss(x, target, weight, ignore_index):
    """(-Σ weight[t] x[t], Σ weight[t])        x (n, c, *s) log-probabilities, target (n, *s)"""
    losses, weights = _nll(x, target, weight, ignore_index)
    return total(losses), total(weights)


def nll_losses(x, target, weight, ignore_index):
    """y = -weight[t] x[t] of each place, (n, *s)"""
    return _nll(x, target, weight, ignore_index)[0]


def _nll(x, target, weight, ignore_index):
    """The losses and the weights of all places."""
    x, target = contiguous(x), _classes(target)
    losses, weights = (empty(x, target.shape, x.dtype) for _ in range(2))
    arrays, sizes = (x, target, weight, losses, weights), (target.size, *_sizes(x))
    device.launch("loss", "nll_loss", target.size, *arrays, *sizes, ignore_index)
    return losses, weights


def nll_loss_backward(x, target, weight, ignore_index, scale):
    """dx = -scale weight[t] at the target's class, else 0"""
    dx, target = empty(x, x.shape, x.dtype), _classes(target)
    options = x.size, *_sizes(x), ignore_index, scale
    device.launch("loss", "nll_loss_backward", x.size, target, weight, dx, *options)
    return dx


def cross_entropy(x, target, weight, ignore_index, smoothing):
    """(-Σ share log softmax x, Σ weight[t])        x (n, c, *s), target (n, *s)"""
    losses, weights = _cross_entropy(x, target, weight, ignore_index, smoothing)
    return total(losses), total(weights)


def cross_entropy_losses(x, target, weight, ignore_index, smoothing):
    """y = -Σ share log softmax x of each place, (n, *s)"""
    return _cross_entropy(x, target, weight, ignore_index, smoothing)[0]


def _cross_entropy(x, target, weight, ignore_index, smoothing):
    """The losses and the weights of all places."""
    x, target = contiguous(x), _classes(target)
    losses, weights = (empty(x, target.shape, x.dtype) for _ in range(2))
    arrays = x, target, weight, losses, weights
    options = target.size, *_sizes(x), ignore_index, smoothing
    device.launch_blocks("loss", "cross_entropy", target.size, *arrays, *options)
    return losses, weights


def cross_entropy_backward(x, target, weight, ignore_index, smoothing, scale):
    """dx = scale (softmax x Σ share - share)"""
    x, target = contiguous(x), _classes(target)
    dx = empty(x, x.shape, x.dtype)
    arrays = x, target, weight, dx
    options = target.size, *_sizes(x), ignore_index, smoothing, scale
    device.launch_blocks("loss", "cross_entropy_backward", target.size, *arrays, *options)
    return dx


def mse_loss(x, target):
    """Σ (x - target)²"""
    return total(elementwise("loss", "squares", [x, target]))


def mse_loss_backward(x, target, scale):
    """dx = 2 scale (x - target)"""
    return elementwise("loss", "mse_loss_backward", [x, target], scale)


def _classes(target):
    return contiguous(target) if target.dtype == np.int64 else cast(target, np.int64)


def _sizes(x):
    return x.shape[1], math.prod(x.shape[2:])


def total(x):
    """The sum of a contiguous array, as a float."""
    parts = min(_PARTS, -(-x.size // 256))
    if parts == 0:
        return 0.0
    part = empty(x, (parts,), x.dtype)
    device.launch_blocks("loss", "sum", parts, x, part, x.size, parts)
    return float(numpy(part).sum(dtype=np.float64))
