"""Caffe's layers that compute: one function for each foreign type.

A reader takes the layer and the shapes of its bottoms, and gives the module (or several in a row,
the last of which is the layer) and the shape of its top (of several tops: a list).
"""

import math

from flambeau import nn
from flambeau.zoo import caffe_modules
from flambeau.zoo.caffe_registry import fills, reads, state


def _pair(layer, options, name, default):
    """(h, w) of an option that is one number, two, or two options `name_h` and `name_w`."""
    if options.HasField(f"{name}_h") or options.HasField(f"{name}_w"):
        return getattr(options, f"{name}_h"), getattr(options, f"{name}_w")
    field = "kernel_size" if name == "kernel" else name
    given = getattr(options, field)
    if isinstance(given, int):
        given = [given] if options.HasField(field) else []
    values = [*given] * 2 if len(given) == 1 else [*given] or [default] * 2
    layer.need(len(values) == 2, f"{field} must be one number or two (h, w), not {values}")
    return tuple(values)


def _image(layer, shape):
    layer.need(len(shape) == 4, f"its bottom must be (n, c, h, w), not {shape}")
    return shape


def _windows(layer, options, positive=("kernel", "stride")):
    """Kernel, stride, padding: what convolutions and pooling have alike."""
    found = [_pair(layer, options, *item) for item in (("kernel", 0), ("stride", 1), ("pad", 0))]
    for name, value in zip(positive, found[:2], strict=True):
        layer.need(min(value) > 0, f"its {name} must be given and positive, not {value}")
    return found


# ---- convolutions and products


def _convolution(layer, shape):
    """What both convolutions need: the arguments of the layer, and h and w with their filters."""
    options = layer.options.convolution_param
    n, c, h, w = _image(layer, shape)
    kernel, stride, pad = _windows(layer, options)
    repeated = list(options.dilation) or [1]
    layer.need(len(repeated) <= 2 and min(repeated) > 0, f"dilation must be positive: {repeated}")
    dilation = (repeated * 2)[:2] if len(repeated) == 1 else repeated
    k, group = options.num_output, options.group
    layer.need(layer.axis(options.axis, shape) == 1, "only axis: 1 can be read")
    layer.need(k > 0 and group > 0, f"num_output {k} and group {group} must be positive")
    layer.need(c % group == 0 and k % group == 0, f"group {group} must divide {c} and {k} channels")
    layer.check_size(k, c // group, *kernel)
    arguments = dict(
        in_channels=c, out_channels=k, kernel_size=kernel, stride=stride, padding=pad,
        dilation=tuple(dilation), groups=group, bias=options.bias_term,
    )  # fmt: skip
    spans = [d * (p - 1) + 1 for d, p in zip(dilation, kernel, strict=True)]
    return arguments, (n, k), list(zip((h, w), spans, stride, pad, strict=True))


@reads("Convolution", "CONVOLUTION")
def convolution(layer, shape):
    arguments, head, axes = _convolution(layer, shape)
    size = [(h + 2 * pad - span) // stride + 1 for h, span, stride, pad in axes]
    layer.need(min(size) > 0, f"its kernel is larger than its bottom {shape}")
    return nn.Conv2d(**arguments), (*head, *size)


@reads("Deconvolution", "DECONVOLUTION")
def deconvolution(layer, shape):
    arguments, head, axes = _convolution(layer, shape)
    size = [(h - 1) * stride + span - 2 * pad for h, span, stride, pad in axes]
    layer.need(min(size) > 0, f"its padding is larger than its top for a bottom {shape}")
    return nn.ConvTranspose2d(**arguments), (*head, *size)


@reads("InnerProduct", "INNER_PRODUCT")
def inner_product(layer, shape):
    options = layer.options.inner_product_param
    axis = layer.axis(options.axis, shape)
    i, o = math.prod(shape[axis:]), options.num_output
    layer.check_size(o, i)
    linear = nn.Linear(i, o, bias=options.bias_term)
    flat = [] if axis == len(shape) - 1 else [nn.Flatten(axis)]
    return (*flat, linear), (*shape[:axis], o)


@fills("InnerProduct", "INNER_PRODUCT")
def fill_inner_product(layer, module, blobs):
    transposed = layer.options.inner_product_param.transpose
    shapes = [getattr(module, name).shape for name in state(module)]
    w, *b = layer.fit(blobs, [shapes[0][::-1] if transposed else shapes[0], *shapes[1:]])
    module.weight[...] = w.T if transposed else w
    if b:
        module.bias[...] = b[0]


# ---- pooling


@reads("Pooling", "POOLING")
def pooling(layer, shape):
    options = layer.options.pooling_param
    methods = type(options)
    layer.need(options.pool != methods.STOCHASTIC, "stochastic pooling cannot be read")
    layer.need(layer.n_tops == 1, "its second top, the mask, cannot be read")
    n, c, h, w = _image(layer, shape)
    maximum = options.pool == methods.MAX
    if options.global_pooling:
        module = caffe_modules.GlobalMaxPool2d() if maximum else nn.AdaptiveAvgPool2d(1)
        return module, (n, c, 1, 1)
    kernel, stride, pad = _windows(layer, options)
    ceil = options.round_mode == methods.CEIL
    axes = zip((h, w), kernel, stride, pad, strict=True)
    size = [_pooled(layer, *axis, ceil, any(pad)) for axis in axes]
    if maximum:
        return nn.MaxPool2d(kernel, stride, pad, ceil_mode=ceil), (n, c, *size)
    # Caffe divides by the whole window, padding and all
    return nn.AvgPool2d(kernel, stride, pad, ceil, True), (n, c, *size)


def _pooled(layer, size, kernel, stride, pad, ceil, padded):
    """How many windows: Caffe rounds up, and leaves off a window that begins in the padding."""
    span = size + 2 * pad - kernel
    layer.need(
        span >= 0 and pad < kernel, f"kernel {kernel} and pad {pad} do not fit {size} pixels"
    )
    windows = (-(-span // stride) if ceil else span // stride) + 1
    if (windows - 1) * stride >= size + pad:
        # without any padding Caffe keeps the window that holds nothing, and gives the lowest float
        layer.need(padded, f"its last window would lie outside of its bottom ({size} pixels)")
        windows -= 1
    return windows


# ---- normalization


@reads("BatchNorm")
def batch_norm(layer, shape):
    options = layer.options.batch_norm_param
    layer.need(len(shape) in (2, 4), f"its bottom must be (n, c) or (n, c, h, w), not {shape}")
    given = options.HasField("use_global_stats")
    fixed = options.use_global_stats if given else layer.phase == "TEST"
    layer.need(fixed or layer.phase == "TRAIN", "use_global_stats: false cannot be read: remove it")
    layer.check_size(shape[1])
    make = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    momentum = 1 - options.moving_average_fraction
    module = make(shape[1], eps=options.eps, momentum=momentum, affine=False)
    if given and fixed:
        module.freeze()  # training must not touch the statistics
    return module, shape


@fills("BatchNorm")
def fill_batch_norm(layer, module, blobs):
    # Caffe keeps sums: mean and variance times a factor of their own; all 0 before training
    c = module.running_mean.shape
    mean, variance, factor = layer.fit(blobs, [c, c, (1,)])
    scale = 0 if factor[0] == 0 else 1 / factor[0]
    module.running_mean[...] = mean * scale
    module.running_var[...] = variance * scale


def _per_channel(layer, options, shape):
    layer.need(len(shape) > 1, f"its bottom must be (n, c, *), not {shape}")
    plain = options.num_axes == 1 or options.num_axes == -1 and len(shape) == 2
    plain = plain and layer.axis(options.axis, shape) == 1
    layer.need(plain, "only axis: 1 and num_axes: 1, a number for each channel, can be read")
    layer.check_size(shape[1])
    return shape[1]


@reads("Scale")
def scale(layer, shape):
    options = layer.options.scale_param
    return nn.Scale(_per_channel(layer, options, shape), bias=options.bias_term), shape


@reads("Bias")
def bias(layer, shape):
    return caffe_modules.Bias(_per_channel(layer, layer.options.bias_param, shape)), shape


@reads("LRN", "LRN")
def local_response_norm(layer, shape):
    options = layer.options.lrn_param
    _image(layer, shape)
    layer.need(options.local_size % 2 == 1, f"local_size {options.local_size} must be odd")
    within = options.norm_region == type(options).WITHIN_CHANNEL
    k = 1.0 if within else options.k  # Caffe takes 1 there, whatever k is
    size, alpha, beta = options.local_size, options.alpha, options.beta
    region = "within" if within else "across"
    return nn.LocalResponseNorm(size, alpha, beta, k, region=region), shape


# ---- element by element


@reads("ReLU", "RELU")
def relu(layer, shape):
    slope = layer.options.relu_param.negative_slope
    return nn.LeakyReLU(slope) if slope else nn.ReLU(), shape


@reads("PReLU")
def prelu(layer, shape):
    layer.need(len(shape) > 1, f"its bottom must be (n, c, *), not {shape}")
    shared = layer.options.prelu_param.channel_shared
    return nn.PReLU(1 if shared else shape[1]), shape


@reads("ELU")
def elu(layer, shape):
    return nn.ELU(layer.options.elu_param.alpha), shape


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
    if options.power == 1:
        return nn.Affine(options.scale, options.shift), shape
    return (nn.Affine(options.scale, options.shift), nn.Power(options.power)), shape


def _log_base(layer, base):
    layer.need(base == -1 or base > 0 and base != 1, f"base {base} must be positive and not 1")
    return 1.0 if base == -1 else math.log(base)  # -1 stands for e


@reads("Exp", "EXP")
def exp(layer, shape):
    options = layer.options.exp_param  # base^(shift + scale x)
    log = _log_base(layer, options.base)
    return (nn.Affine(log * options.scale, log * options.shift), nn.Exp()), shape


@reads("Log")
def log(layer, shape):
    options = layer.options.log_param  # log_base(shift + scale x)
    base = _log_base(layer, options.base)
    return (nn.Affine(options.scale, options.shift), nn.Log(), nn.Affine(1 / base, 0.0)), shape


@reads("Dropout", "DROPOUT")
def dropout(layer, shape):
    return nn.Dropout(layer.options.dropout_param.dropout_ratio), shape


@reads("Softmax", "SOFTMAX")
def softmax(layer, shape):
    return nn.Softmax(layer.axis(layer.options.softmax_param.axis, shape)), shape
