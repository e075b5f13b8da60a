"""Caffe's convolutions, products, pooling and normalisation: one function for each foreign type.

A reader takes the layer and the shapes of its bottoms, and gives the module (or several in a row,
the last of which is the layer) and the shape of its top (of several tops: a list).
"""

import math

from flambeau import nn
from flambeau.zoo import caffe_modules
from flambeau.zoo.caffe_registry import decimal, fills, reads, state

PLAIN = dict(stride=1, padding=0, dilation=1, groups=1, bias=True)  # our own defaults


def _pair(layer, options, name, default):
    """(h, w) of an option that is one number, two, or two options `name_h` and `name_w`."""
    known = options.DESCRIPTOR.fields_by_name
    if any(side in known and options.HasField(side) for side in (f"{name}_h", f"{name}_w")):
        return getattr(options, f"{name}_h"), getattr(options, f"{name}_w")
    field = "kernel_size" if name == "kernel" else name
    given = getattr(options, field)
    if isinstance(given, int):
        given = [given] if options.HasField(field) else []
    values = [*given] * 2 if len(given) == 1 else [*given] or [default] * 2
    layer.need(len(values) == 2, f"{field} must be one number or two (h, w), not {values}")
    return tuple(values)


def _one(pair):
    """A pair of equal numbers as that number, as one would write it."""
    return pair[0] if pair[0] == pair[1] else pair


def _image(layer, shape):
    layer.need(len(shape) == 4, f"its bottom must be (n, c, h, w), not {shape}")
    return shape


def _windows(layer, options):
    """Kernel, stride, padding: what convolutions and pooling have alike."""
    kernel, stride = _pair(layer, options, "kernel", 0), _pair(layer, options, "stride", 1)
    layer.need(min(kernel) > 0, f"its kernel must be given and positive, not {kernel}")
    layer.need(min(stride) > 0, f"its stride must be positive, not {stride}")
    return kernel, stride, _pair(layer, options, "pad", 0)


def coarser(grid, windows):
    """Where the pixels lie after a convolution or pooling: (scale, shift) for h and w.

    Pixel = scale * pixel of the input + shift. Only Crop asks for it; windows: (span, stride, pad)
    for h and w. None: nowhere, as after an inner product.
    """
    return grid and tuple(
        (scale / stride, (shift + pad - (span - 1) / 2) / stride)
        for (scale, shift), (span, stride, pad) in zip(grid, windows, strict=True)
    )


def finer(grid, windows):
    """The same after a deconvolution."""
    return grid and tuple(
        (scale * stride, shift * stride - pad + (span - 1) / 2)
        for (scale, shift), (span, stride, pad) in zip(grid, windows, strict=True)
    )


# ---- convolutions and products


def _convolution(layer, shape, make):
    """The module of either convolution, (n, k), (h, w), and (span, stride, pad) of both axes."""
    options = layer.options.convolution_param
    n, c, h, w = _image(layer, shape)
    kernel, stride, pad = _windows(layer, options)
    dilation = _pair(layer, options, "dilation", 1)
    k, groups = options.num_output, options.group
    layer.need(layer.axis(options.axis, shape) == 1, "only axis: 1 can be read")
    layer.need(min(dilation) > 0, f"its dilation must be positive, not {dilation}")
    layer.need(k > 0 and groups > 0, f"num_output {k} and group {groups} must be positive")
    fits = c % groups == 0 and k % groups == 0
    layer.need(fits, f"group {groups} must divide {c} and {k} channels")
    layer.check_size(k, c // groups, *kernel)
    stated = dict(stride=_one(stride), padding=_one(pad), dilation=_one(dilation), groups=groups)
    stated["bias"] = options.bias_term
    stated = {name: value for name, value in stated.items() if value != PLAIN[name]}
    spans = [d * (p - 1) + 1 for d, p in zip(dilation, kernel, strict=True)]
    windows = list(zip(spans, stride, pad, strict=True))
    return make(c, k, _one(kernel), **stated), (n, k), (h, w), windows


@reads("Convolution", "CONVOLUTION")
def convolution(layer, shape):
    module, head, image, windows = _convolution(layer, shape, nn.Conv2d)
    layer.grid = coarser(layer.grid, windows)
    axes = zip(image, windows, strict=True)
    size = [(h + 2 * pad - span) // stride + 1 for h, (span, stride, pad) in axes]
    layer.need(min(size) > 0, f"its kernel is larger than its bottom {shape}")
    return module, (*head, *size)


@reads("Deconvolution", "DECONVOLUTION")
def deconvolution(layer, shape):
    module, head, image, windows = _convolution(layer, shape, nn.ConvTranspose2d)
    layer.grid = finer(layer.grid, windows)
    axes = zip(image, windows, strict=True)
    size = [(h - 1) * stride + span - 2 * pad for h, (span, stride, pad) in axes]
    layer.need(min(size) > 0, f"its padding is larger than its top for a bottom {shape}")
    return module, (*head, *size)


@reads("InnerProduct", "INNER_PRODUCT")
def inner_product(layer, shape):
    options = layer.options.inner_product_param
    axis = layer.axis(options.axis, shape)
    i, o = math.prod(shape[axis:]), options.num_output
    layer.check_size(o, i)
    layer.grid = None
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
        layer.grid = None
        module = caffe_modules.GlobalMaxPool2d() if maximum else nn.AdaptiveAvgPool2d(1)
        return module, (n, c, 1, 1)
    kernel, stride, pad = _windows(layer, options)
    layer.grid = coarser(layer.grid, zip(kernel, stride, pad, strict=True))
    ceil = options.round_mode == methods.CEIL
    axes = zip((h, w), kernel, stride, pad, strict=True)
    size = [_pooled(layer, *axis, ceil, any(pad)) for axis in axes]
    # the average is over the whole window, padding and all, which is AvgPool2d's way too
    make = nn.MaxPool2d if maximum else nn.AvgPool2d
    return make(_one(kernel), _one(stride), _one(pad), ceil_mode=ceil), (n, c, *size)


def _pooled(layer, size, kernel, stride, pad, ceil, padded):
    """How many windows: Caffe rounds up, and leaves off a window that begins in the padding."""
    span = size + 2 * pad - kernel
    fits = span >= 0 and pad < kernel
    layer.need(fits, f"kernel {kernel} and pad {pad} do not fit {size} pixels")
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
    layer.need(len(shape) in (2, 3, 4), f"its bottom must be (n, c, *) of 2 to 4 axes, not {shape}")
    given = options.HasField("use_global_stats")
    fixed = options.use_global_stats if given else layer.phase == "TEST"
    layer.check_size(shape[1])
    make = nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d
    kept = options.moving_average_fraction if options.HasField("moving_average_fraction") else 0.999
    eps = options.eps if options.HasField("eps") else 1e-5
    by_batch = {} if fixed or layer.phase == "TRAIN" else {"track_running_stats": False}
    momentum = round(1 - decimal(kept), 7)
    module = make(shape[1], decimal(eps), momentum, affine=False, **by_batch)
    if given and fixed:
        module.freeze()  # training must not touch the statistics
    return module, shape


@fills("BatchNorm")
def fill_batch_norm(layer, module, blobs):
    # Caffe keeps sums: mean and variance times a factor of their own; all 0 before training
    c = (module.num_features,)
    mean, variance, factor = layer.fit(blobs, [c, c, (1,)])
    if module.running_mean is None:  # use_global_stats: false, and yet not in training
        return
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
    alpha, beta, k = decimal(options.alpha), decimal(options.beta), decimal(options.k)
    if within:  # k is 1 there, whatever the file says
        return nn.LocalResponseNorm(options.local_size, alpha, beta, 1.0, region="within"), shape
    return nn.LocalResponseNorm(options.local_size, alpha, beta, k), shape
