"""Losses: sums over all places, and their gradients: C kernels."""

import math

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import memory, native
from flambeau.kernels.cpu.arrays import readable

_CHUNK = 4096  # so many squares are added in the arrays' own precision, the rest in float64


def nll_loss(x, target, weight, ignore_index):
    """(−Σ weight[t] x[t], Σ weight[t])"""
    if not native.takes(x, weight):
        return reference.nll_loss(x, target, weight, ignore_index)
    return _places("nll_loss", x, target, weight, ignore_index)[1]


def nll_losses(x, target, weight, ignore_index):
    """y = −weight[t] x[t] of each place, (n, *s)"""
    if not native.takes(x, weight):
        return reference.nll_losses(x, target, weight, ignore_index)
    return _places("nll_loss", x, target, weight, ignore_index)[0]


def nll_loss_backward(x, target, weight, ignore_index, scale):
    """dx = −scale · weight[t] at the target's class, else 0"""
    if not native.takes(x, weight):
        return reference.nll_loss_backward(x, target, weight, ignore_index, scale)
    dx = memory.empty(x.shape, x.dtype)
    dx.fill(0)
    target, weight = readable(target), readable(weight)
    native.call("nll_loss_backward", dx, target, weight, *_sizes(x), ignore_index, scale)
    return dx


def cross_entropy(x, target, weight, ignore_index, smoothing):
    """(−Σ share · log softmax(x), Σ weight[t])"""
    if not native.takes(x, weight):
        return reference.cross_entropy(x, target, weight, ignore_index, smoothing)
    return _places("cross_entropy", x, target, weight, ignore_index, smoothing)[1]


def cross_entropy_losses(x, target, weight, ignore_index, smoothing):
    """y = −Σ share · log softmax(x) of each place, (n, *s)"""
    if not native.takes(x, weight):
        return reference.cross_entropy_losses(x, target, weight, ignore_index, smoothing)
    return _places("cross_entropy", x, target, weight, ignore_index, smoothing)[0]


def cross_entropy_backward(x, target, weight, ignore_index, smoothing, scale):
    """dx = scale · (softmax(x) Σ share − share)"""
    if not native.takes(x, weight):
        return reference.cross_entropy_backward(x, target, weight, ignore_index, smoothing, scale)
    x, target, weight = readable(x), readable(target), readable(weight)
    dx, options = memory.empty(x.shape, x.dtype), (ignore_index, smoothing, scale)
    native.call("cross_entropy_backward", x, dx, target, weight, *_sizes(x), *options)
    return dx


def mse_loss(x, target):
    """Σ (x − target)²"""
    if not native.takes(x, target):
        return reference.mse_loss(x, target)
    x, target = readable(x), readable(target)
    sums = np.empty(-(-x.size // _CHUNK), x.dtype)
    native.call("squared_errors", x, target, sums, x.size, _CHUNK)
    return float(sums.sum(dtype=np.float64))


def mse_loss_backward(x, target, scale):
    """dx = 2 · scale · (x − target)"""
    if not native.takes(x, target):
        return reference.mse_loss_backward(x, target, scale)
    x, target = readable(x), readable(target)
    dx = memory.empty(x.shape, x.dtype)
    native.call("mse_loss_backward", x, target, dx, x.size, scale)
    return dx


def _places(name, x, target, weight, *options):
    """The losses of all places, and the sums of the losses and of the weights, in float64."""
    x, target, weight = readable(x), readable(target), readable(weight)
    losses, weights = memory.empty(target.shape, x.dtype), memory.empty(target.shape, x.dtype)
    totals = np.empty(2)
    native.call(name, x, target, weight, losses, weights, totals, *_sizes(x), *options)
    return losses, tuple(totals.tolist())


def _sizes(x):
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])
