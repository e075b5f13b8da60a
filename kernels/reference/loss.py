"""Losses: sums over all places, and their gradients.

x (n, c, *s), target (n, *s) int64 classes, weight (c,) or None. A place whose target is
ignore_index counts nothing. Sums are Python floats, added in float64.
"""

import numpy as np

from flambeau.kernels.reference.softmax import log_softmax, softmax


def nll_loss(x, target, weight, ignore_index):
    """(−Σ weight[t] x[t], Σ weight[t])        x log-probabilities"""
    _, weights = _counts(x, target, weight, ignore_index)
    share = _shares(x, target, weight, ignore_index, 0.0)
    return -_dot(share, x), _total(weights)


def nll_losses(x, target, weight, ignore_index):
    """y = −weight[t] x[t] of each place, (n, *s)"""
    return -_dots(_shares(x, target, weight, ignore_index, 0.0), x)


def nll_loss_backward(x, target, weight, ignore_index, scale):
    """dx = −scale · weight[t] at the target's class, else 0"""
    share = _shares(x, target, weight, ignore_index, 0.0)
    return np.where(share == 0, x.dtype.type(0), -share * x.dtype.type(scale))


def cross_entropy(x, target, weight, ignore_index, smoothing):
    """(−Σ share · log softmax(x), Σ weight[t])

    share = weight · ((1 − smoothing) at the target's class + smoothing / c at every class)
    """
    _, weights = _counts(x, target, weight, ignore_index)
    share = _shares(x, target, weight, ignore_index, smoothing)
    return -_dot(share, log_softmax(x, 1)), _total(weights)


def cross_entropy_losses(x, target, weight, ignore_index, smoothing):
    """y = −Σ share · log softmax(x) of each place, (n, *s)"""
    return -_dots(_shares(x, target, weight, ignore_index, smoothing), log_softmax(x, 1))


def cross_entropy_backward(x, target, weight, ignore_index, smoothing, scale):
    """dx = scale · (softmax(x) Σ share − share)"""
    kept, _ = _counts(x, target, weight, ignore_index)
    share = _shares(x, target, weight, ignore_index, smoothing)
    dx = x.dtype.type(scale) * (softmax(x, 1) * share.sum(1, keepdims=True) - share)
    return np.where(kept[:, None], dx, x.dtype.type(0))


def mse_loss(x, target):
    """Σ (x − target)²        arrays of one shape"""
    return _total((x - target) ** 2)


def mse_loss_backward(x, target, scale):
    """dx = 2 · scale · (x − target)"""
    return (x - target) * x.dtype.type(2 * scale)


def _counts(x, target, weight, ignore_index):
    """(where the target counts, with what weight), both (n, *s)"""
    kept = target != ignore_index
    weight = np.ones(x.shape[1], x.dtype) if weight is None else weight
    return kept, np.where(kept, weight[np.where(kept, target, 0)], x.dtype.type(0))


def _shares(x, target, weight, ignore_index, smoothing):
    """How much each class of each place counts, (n, c, *s)"""
    kept = (target != ignore_index)[:, None]
    classes = np.arange(x.shape[1]).reshape(-1, *(1,) * (x.ndim - 2))
    share = (classes == target[:, None]) * (1 - smoothing) + smoothing / max(x.shape[1], 1)
    share = np.where(kept, share, 0).astype(x.dtype)
    return share if weight is None else share * weight.reshape(classes.shape)


def _dots(share, x):
    """Σ share · x over the classes, where 0 · ∞ = 0"""
    return np.multiply(share, x, where=share != 0, out=np.zeros_like(share)).sum(1)


def _dot(share, x):
    """Σ share · x, where 0 · ∞ = 0"""
    return _total(np.multiply(share, x, where=share != 0, out=np.zeros_like(share)))


def _total(x):
    return float(x.sum(dtype=np.float64))
