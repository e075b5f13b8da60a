"""Caffe's layers that work element by element, and softmax."""

import math

from flambeau import nn
from flambeau.zoo.caffe_registry import decimal, reads


@reads("ReLU", "RELU")
def relu(layer, shape):
    slope = decimal(layer.options.relu_param.negative_slope)
    return nn.LeakyReLU(slope) if slope else nn.ReLU(), shape


@reads("PReLU")
def prelu(layer, shape):
    layer.need(len(shape) > 1, f"its bottom must be (n, c, *), not {shape}")
    layer.check_size(shape[1])
    shared = layer.options.prelu_param.channel_shared
    return nn.PReLU(1 if shared else shape[1]), shape


@reads("ELU")
def elu(layer, shape):
    return nn.ELU(decimal(layer.options.elu_param.alpha)), shape


@reads("Sigmoid", "SIGMOID")
def sigmoid(layer, shape):
    return nn.Sigmoid(), shape


@reads("TanH", "TANH")
def tanh(layer, shape):
    return nn.Tanh(), shape


@reads("AbsVal", "ABSVAL")
def absolute(layer, shape):
    return nn.Abs(), shape


@reads("BNLL", "BNLL")
def bnll(layer, shape):
    return nn.Softplus(), shape  # log(1 + exp(x))


@reads("Power", "POWER")
def power(layer, shape):
    options = layer.options.power_param  # (shift + scale x)^power
    affine = nn.Affine(decimal(options.scale), decimal(options.shift))
    return affine if options.power == 1 else (affine, nn.Power(decimal(options.power))), shape


def _log_base(layer, base):
    layer.need(base == -1 or base > 0 and base != 1, f"base {base} must be positive and not 1")
    return 1.0 if base == -1 else math.log(decimal(base))  # -1 stands for e


@reads("Exp", "EXP")
def exp(layer, shape):
    options = layer.options.exp_param  # base^(shift + scale x)
    base = _log_base(layer, options.base)
    affine = nn.Affine(base * decimal(options.scale), base * decimal(options.shift))
    return (affine, nn.Exp()), shape


@reads("Log")
def log(layer, shape):
    options = layer.options.log_param  # log_base(shift + scale x)
    base = _log_base(layer, options.base)
    affine = nn.Affine(decimal(options.scale), decimal(options.shift))
    return (affine, nn.Log(), nn.Affine(1 / base, 0.0)), shape


@reads("Dropout", "DROPOUT")
def dropout(layer, shape):
    return nn.Dropout(decimal(layer.options.dropout_param.dropout_ratio)), shape


@reads("Softmax", "SOFTMAX")
def softmax(layer, shape):
    return nn.Softmax(layer.axis(layer.options.softmax_param.axis, shape)), shape
