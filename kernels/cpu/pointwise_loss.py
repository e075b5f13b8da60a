"""Losses of one output and one target each: C kernels."""

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import memory, native
from flambeau.kernels.cpu.arrays import contiguous
from flambeau.kernels.reference.pointwise_loss import KINDS

_CHUNK = 4096  # so many losses are added in the arrays' own precision, the rest in float64


def pointwise_losses(x, target, kind, option):
    """y = the loss of each element"""
    if not native.takes(x, target):
        return reference.pointwise_losses(x, target, kind, option)
    y, number = memory.empty(x.shape, x.dtype), KINDS.index(kind)
    arrays = contiguous(x), contiguous(target), y
    native.call("pointwise_losses", *arrays, x.size, number, option)
    return y


def pointwise_loss(x, target, kind, option):
    """Σ losses, a float"""
    if not native.takes(x, target):
        return reference.pointwise_loss(x, target, kind, option)
    sums, number = np.empty(-(-x.size // _CHUNK), x.dtype), KINDS.index(kind)
    arrays = contiguous(x), contiguous(target), sums
    native.call("pointwise_loss", *arrays, x.size, _CHUNK, number, option)
    return float(sums.sum(dtype=np.float64))


def pointwise_loss_backward(x, target, kind, option, scale):
    """dx = scale · the slope of each element's loss"""
    if not native.takes(x, target):
        return reference.pointwise_loss_backward(x, target, kind, option, scale)
    dx, number = memory.empty(x.shape, x.dtype), KINDS.index(kind)
    arrays = contiguous(x), contiguous(target), dx
    native.call("pointwise_loss_backward", *arrays, x.size, number, option, scale)
    return dx
