"""Losses of one output and one target each: their values, their sum, their gradient.

x, target (*s) -> (*s) or a float, d = x − target, by kind and option:

    mse         d²
    l1          |d|
    smooth_l1   d² / (2 option) where |d| < option, else |d| − option / 2
    huber       d² / 2 where |d| < option, else option (|d| − option / 2)
    bce         −target ln x − (1 − target) ln(1 − x), logarithms held above −100
    bce_logits  the same of 1 / (1 + e⁻ˣ)
    kl          target (ln target − x), 0 where target is 0
    kl_log      e^target (target − x)
"""

import numpy as np

KINDS = "mse", "l1", "smooth_l1", "huber", "bce", "bce_logits", "kl", "kl_log"


def pointwise_losses(x, target, kind, option):
    """y = the loss of each element"""
    d = x - target
    size = np.abs(d)
    if kind == "mse":
        return d * d
    if kind == "l1":
        return size
    if kind == "smooth_l1":
        return np.where(size < option, d * d / (2 * option or 1), size - option / 2)
    if kind == "huber":
        return np.where(size < option, d * d / 2, option * (size - option / 2))
    if kind == "bce_logits":
        return np.maximum(x, 0) - x * target + np.log1p(np.exp(-np.abs(x)))
    if kind == "kl_log":
        return np.exp(target) * (target - x)
    with np.errstate(divide="ignore", invalid="ignore"):
        if kind == "bce":
            yes, no = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
            return -target * yes - (1 - target) * no
        return np.where(target == 0, x.dtype.type(0), target * (np.log(target) - x))


def pointwise_loss(x, target, kind, option):
    """Σ losses, a float"""
    return float(pointwise_losses(x, target, kind, option).sum(dtype=np.float64))


def pointwise_loss_backward(x, target, kind, option, scale):
    """dx = scale · the slope of each element's loss"""
    d = x - target
    if kind == "mse":
        slope = 2 * d
    elif kind == "l1":
        slope = np.sign(d)
    elif kind == "smooth_l1":
        slope = np.where(np.abs(d) < option, d / (option or 1), np.sign(d))
    elif kind == "huber":
        slope = np.clip(d, -option, option)
    elif kind == "bce":
        slope = d / np.maximum(x * (1 - x), x.dtype.type(1e-12))
    elif kind == "bce_logits":
        e = np.exp(-np.abs(x))
        slope = np.where(x < 0, e, 1) / (1 + e) - target
    else:
        slope = -target if kind == "kl" else -np.exp(target)
    return slope * x.dtype.type(scale)
