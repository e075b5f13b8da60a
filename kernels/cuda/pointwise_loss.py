"""Losses of one output and one target each."""

from flambeau.kernels.cuda.arrays import elementwise
from flambeau.kernels.cuda.loss import total
from flambeau.kernels.reference.pointwise_loss import KINDS


def pointwise_losses(x, target, kind, option):
    """y = the loss of each element"""
    options = KINDS.index(kind), option
    return elementwise("pointwise_loss", "pointwise_losses", [x, target], *options)


def pointwise_loss(x, target, kind, option):
    """Σ losses, a float"""
    return total(pointwise_losses(x, target, kind, option))


def pointwise_loss_backward(x, target, kind, option, scale):
    """dx = scale · the slope of each element's loss"""
    options = KINDS.index(kind), option, scale
    return elementwise("pointwise_loss", "pointwise_loss_backward", [x, target], *options)
