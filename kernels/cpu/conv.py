"""Convolution: which kernels compute it, and how they are called."""

import functools
import math

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import (
    activation,
    columns,
    conv_algorithm,
    conv_depthwise,
    conv_last,
    conv_patches,
    conv_transposed,
    conv_weight,
    elementwise,
    memory,
    native,
    weights,
    winograd,
)
from flambeau.kernels.cpu.arrays import concatenate, contiguous, in_place, readable
from flambeau.kernels.cpu.conv_algorithm import algorithm, forced
from flambeau.kernels.cpu.layout import arranged, channels_last, prefers_channels_last
from flambeau.kernels.cpu.padding import pad2d
from flambeau.kernels.reference.conv import output_size, transposed_size

__all__ = [
    "algorithm",
    "conv2d",
    "conv2d_backward",
    "conv2d_fused",
    "conv2d_joined",
    "conv_transpose2d",
    "conv_transpose2d_backward",
]


def transposed(x, w, b, other, size, stride, padding, dilation, groups):
    """The transposed convolution, an image of the given size, + other, which may be None."""
    options = stride, padding, dilation, groups
    here = not conv_depthwise.takes(w.shape, groups) and conv_transposed.takes(x, w, groups)
    if other is not None and not (here and stride == (1, 1) and x.size):
        return elementwise.add([transposed(x, w, b, None, size, *options), other])
    if here:
        return conv_transposed.transposed(x, w, b, other, size, *options)
    if b is None and conv_depthwise.gradient_takes_last(x, w, groups) and min(size) > 0:
        return conv_depthwise.input_gradient_last(x, w, size, stride, padding, dilation)
    x, w, b = contiguous(x), contiguous(w), readable(b)
    y = np.empty((len(x), groups * w.shape[1], *size), x.dtype)
    if y.size == 0:
        return y
    if conv_depthwise.takes(w.shape, groups) and b is None:
        conv_depthwise.input_gradient(x, w, y, stride, padding, dilation)
        return y
    conv_patches.transposed(x, w, b, y, stride, padding, dilation, groups)
    return y


def add_weight_gradient(x, dy, dw, stride, padding, dilation, groups):
    """dw[k, c, p, q] += Σ dy[n, k, i, j] x[n, c, i stride + p dilation - padding, …]"""
    if x.size == 0 or dy.size == 0:
        return
    if x.dtype == np.float32 and groups == 1:
        conv_weight.add_weight_gradient(x, dy, dw, stride, padding, dilation)
        return
    if conv_depthwise.gradient_takes_last(x, dw, groups):
        conv_depthwise.weight_gradient_last(x, dy, dw, stride, padding, dilation)
        return
    x, dy = contiguous(x), contiguous(dy)
    if conv_depthwise.takes(dw.shape, groups):
        conv_depthwise.weight_gradient(x, dy, dw, stride, padding, dilation)
        return
    conv_patches.add_weight_gradient(x, dy, dw, stride, padding, dilation, groups)


def add_bias_gradient(dy, db):
    """db += Σ dy"""
    if prefers_channels_last(dy):
        dy = channels_last(dy)
        columns.totals(dy, db, True)
        return
    dy = contiguous(dy)
    native.call("channel_sums", dy, db, len(dy), dy.shape[1], dy.shape[2] * dy.shape[3])


def conv2d(x, w, b, stride, padding, dilation, groups):
    """y = w * x + b        x (n, c, h, w), w (k, c/groups, p, q) -> y (n, k, h', w')"""
    return conv2d_fused(x, w, b, None, None, None, stride, padding, dilation, groups)


def conv2d_fused(x, w, b, other, low, high, stride, padding, dilation, groups):
    """y = clamp(w * x + b + other, low, high)        other, low, high may be None

    padding: (h, w), or four numbers (top, left, bottom, right)
    """
    options = stride, padding, dilation, groups
    if not native.takes(x, w, b, other):
        return reference.conv2d_fused(x, w, b, other, low, high, *options)
    return forward(x, w, b, other, limits_of(low, high), None, *options)


def conv2d_joined(xs, ws, bs, bounds, options):
    """y = conv2d_fused(x, w, b, None, *bounds, *options) of each, one after another as channels"""
    ks = [len(w) for w in ws]
    parts = list(zip(xs, ws, bs, bounds, options, strict=True))
    found = [place_of(x, w, b, limits_of(*lh), o, sum(ks)) for x, w, b, lh, o in parts]
    if None in found:
        return concatenate([conv2d_fused(x, w, b, None, *lh, *o) for x, w, b, lh, o in parts], 1)
    step = found[0][0]
    y, first = memory.empty((*step.place[:3], sum(ks)), xs[0].dtype), 0
    for (x, w, b, *_), (step, arrange, pack), k in zip(parts, found, ks, strict=True):
        x = arranged(x, True) if arrange else x
        step.into(y[..., first:], x, weights.kept(w, *pack), b, None)
        first += k
    return y.transpose(0, 3, 1, 2)


def place_of(x, w, b, limits, options, pitch):
    """(Step, whether to arrange x, how w is packed) that writes into more channels, or None."""
    if not native.takes(x, w, b) or not x.flags.aligned:
        return None
    layout = x.dtype, x.shape, x.strides, w.shape
    threads = native.lib.threads()
    name, *found = way(*layout, None, *options, limits, threads, forced(), pitch)
    return None if found[0] is None or name == "depthwise" else found


def forward(x, w, b, other, limits, grid, stride, padding, dilation, groups):
    """y = clamp(w * x + b + other, *limits) by the best algorithm.

    grid: how many windows there are; None for all that the image has room for.
    """
    options = stride, padding, dilation, groups
    layout = x.dtype, x.shape, x.strides, w.shape
    threads = native.lib.threads()
    _, step, arrange, pack = way(*layout, grid, *options, limits, threads, forced(), None)
    if step is not None and x.flags.aligned:
        x = arranged(x, True) if arrange else x
        return step(x, weights.kept(w, *pack), b, other)
    if step is not None:
        return forward(arranged(x, True), w, b, other, limits, grid, *options)
    if len(padding) == 4:
        top, left, bottom, right = padding
        x, options = pad2d(x, (left, right, top, bottom)), (stride, (0, 0), dilation, groups)
    x, w, b = contiguous(x), contiguous(w), readable(b)
    grid = grid or output_size(x.shape[2:], w.shape[2:], *options[:3])
    y = np.empty((len(x), len(w), *grid), x.dtype)
    if y.size and conv_depthwise.takes(w.shape, groups):
        conv_depthwise.forward(x, w, b, y, *options[:3])
    elif y.size:
        conv_patches.convolve(x, w, b, y, *options)
    y = y if other is None else elementwise.add([y, other])
    return y if limits is None else activation.clamp(y, *limits)


@functools.lru_cache(maxsize=1024)
def way(
    dtype, shape, strides, taps, grid, stride, padding, dilation, groups, limits, threads, _, pitch
):
    """How images of a shape and strides are convolved with weights of the shape `taps`.

    (algorithm, Step, whether x must be arranged for it, key and maker of the packed weights); the
    Step is None where there is none. pitch: see Step. _: the algorithm that is forced.
    """
    (n, c, h, w), k, kernel = shape, taps[0], taps[2:]
    grid = grid or output_size((h, w), kernel, stride, padding, dilation)
    name = conv_algorithm.chosen(dtype, n, taps, grid, stride, dilation, groups)
    last = h * w * c, 1, w * c, c  # the strides of channels-last images
    simple = min(strides) >= 0 and all(s % dtype.itemsize == 0 for s in strides)
    strides = tuple(s // dtype.itemsize for s in strides) if simple else None
    options = grid, stride, padding[:2], dilation
    if name == "direct":
        options = kernel, k, *options, groups, threads
        step = conv_last.prepared("conv_last", limits, pitch, shape, strides or last, *options)
        return name, step, not simple, weights.panels_of(groups, False)
    if name == "depthwise" and conv_depthwise.takes_last(dtype, k, groups):
        arrange = not simple or strides[1] != 1
        options = kernel, 1, *options, 1, threads
        step = conv_last.prepared(
            "depthwise_last", limits, pitch, shape, last if arrange else strides, *options
        )
        return name, step, arrange, ("taps", conv_depthwise.taps_first)
    if name.startswith("winograd"):
        m = int(name[-1])
        options = k, grid, padding[:2], None, threads
        step = winograd.prepared(m, limits, pitch, shape, last, *options)
        return name, step, strides != last, step.packing(False)
    return name, None, False, None


def limits_of(low, high):
    """(low, high), infinite where there is none; None where there are none."""
    if low is None and high is None:
        return None
    return -math.inf if low is None else low, math.inf if high is None else high


def conv2d_backward(x, dy, w, dw, db, other, stride, padding, dilation, groups, want_dx):
    """dx = the transposed convolution of dy + other, dw += Σ dy x, db += Σ dy

    dw, db, other may be None
    """
    options = stride, padding, dilation, groups
    if not native.takes(x, dy, w, dw, db, other):
        return reference.conv2d_backward(x, dy, w, dw, db, other, *options, want_dx)
    with in_place(dw, db) as (weights_sum, bias_sum):
        if dw is not None:
            add_weight_gradient(x, dy, weights_sum, *options)
        if db is not None:
            add_bias_gradient(dy, bias_sum)
    return transposed(dy, w, None, other, x.shape[2:], *options) if want_dx else None


def conv_transpose2d(x, w, b, stride, padding, output_padding, dilation, groups):
    """y: each x adds x w at its window        x (n, c, *), w (c, k/groups, p, q) -> y (n, k, *)"""
    if not native.takes(x, w, b):
        return reference.conv_transpose2d(
            x, w, b, stride, padding, output_padding, dilation, groups
        )
    size = transposed_size(x.shape[2:], w.shape[2:], stride, padding, output_padding, dilation)
    return transposed(x, w, b, None, size, stride, padding, dilation, groups)


def conv_transpose2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """dx = the convolution of dy, dw += Σ x dy, db += Σ dy        dw, db may be None"""
    options = stride, padding, dilation, groups
    if not native.takes(x, dy, w, dw, db):
        return reference.conv_transpose2d_backward(x, dy, w, dw, db, *options, want_dx)
    with in_place(dw, db) as (weights_sum, bias_sum):
        if dw is not None:
            add_weight_gradient(dy, x, weights_sum, *options)
        if db is not None:
            add_bias_gradient(dy, bias_sum)
    return forward(dy, w, None, None, None, x.shape[2:], *options) if want_dx else None
