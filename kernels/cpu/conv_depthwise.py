"""Convolution channel by channel: lays out the phases of the stride for conv_depthwise.c.

The gradients in channels-last memory are those of depthwise_last_backward.c.
"""

import functools

import numpy as np

from flambeau.kernels.cpu import conv_last, memory, native, weights
from flambeau.kernels.cpu.arrays import contiguous
from flambeau.kernels.cpu.layout import arranged, channels_last

MOST_FILTERS = 4  # a channel with more is better served by the matrix product
SPARE = 64  # numbers that the widest loop may touch past the end
PARALLEL_ABOVE = 100_000  # multiply-adds
MOST_TAPS = 64  # that depthwise_last_input reads with
CHUNKS = 16  # of the lines of windows, with sums of their own


def takes(shape, groups):
    """True when each channel has few filters of its own: weights of a shape (k, 1, p, q)."""
    return groups > 1 and shape[1] == 1 and shape[0] // groups <= MOST_FILTERS


def takes_last(dtype, k, groups):
    """True when a channel has one filter, and the channels fill vectors of the kernel for them."""
    return dtype == np.float32 and k == groups >= weights.lanes()


@functools.lru_cache(maxsize=256)
def layout(x_shape, k, kernel, grid, stride, padding, dilation, threads):
    """What the kernels need to know: shape, table of taps, first tap of each phase, scratch."""
    (n, c, h, w), (p, q) = x_shape, kernel
    sides = zip((h, w), kernel, grid, stride, padding, dilation, strict=True)
    rows, pitch = (
        -(-max((g - 1) * s + (k - 1) * d + 1, size + pad) // s) for size, k, g, s, pad, d in sides
    )
    down, right = np.indices((p, q)).reshape(2, -1) * np.array(dilation)[:, None]
    phase = down % stride[0] * stride[1] + right % stride[1]
    offset = down // stride[0] * pitch + right // stride[1]
    margin = int(offset.max())
    plane = -(-(rows * pitch + margin + SPARE) // 16) * 16
    order = np.argsort(phase, kind="stable")
    table = np.stack([order, (phase * plane + offset)[order], -offset[order]], 1)
    firsts = np.searchsorted(phase[order], np.arange(stride[0] * stride[1] + 1))
    if n * k * grid[0] * grid[1] * p * q < PARALLEL_ABOVE:
        threads = 1
    size = memory.apart((stride[0] * stride[1] + 1) * plane + margin)
    shape = [n, c, k // c, h, w, p * q, *grid, *padding, *stride, rows, pitch, plane, margin]
    return np.array([*shape, threads, size]), table, firsts, threads * size


def plan(x, w, y, stride, padding, dilation):
    """The layout for arrays of these shapes, with as many threads as there are now."""
    shapes = x.shape, len(w), w.shape[2:], y.shape[2:]
    return layout(*shapes, stride, padding, dilation, native.lib.threads())


def forward(x, w, b, y, stride, padding, dilation):
    """y = w * x + b"""
    shape, table, _, size = plan(x, w, y, stride, padding, dilation)
    native.call("depthwise", x, w, b, y, shape, table, memory.empty(size, x.dtype))


def input_gradient(dy, w, dx, stride, padding, dilation):
    """dx = the transposed convolution of dy"""
    shape, table, firsts, size = plan(dx, w, dy, stride, padding, dilation)
    native.call("depthwise_input", dy, w, dx, shape, table, firsts, memory.empty(size, dy.dtype))


def weight_gradient(x, dy, dw, stride, padding, dilation):
    """dw += Σ dy x"""
    shape, table, _, size = plan(x, dw, dy, stride, padding, dilation)
    native.call("depthwise_weight", x, dy, dw, shape, table, memory.empty(size, x.dtype))


def taps_first(w, turned=0):
    """w (c, 1, p, q) as (p q, c); turned: the taps in reverse"""
    w, taps = contiguous(w), w.shape[2] * w.shape[3]
    to = memory.empty((taps, len(w)), w.dtype)
    native.call("depthwise_taps", w, to, len(w), taps, turned)
    return to


def taps_turned(w):
    """The same with the taps in reverse, as a gradient at stride 1 reads them."""
    return taps_first(w, 1)


def gradient_takes_last(x, w, groups):
    """True when the kernels for channels-last gradients serve, for w (c, 1, p, q)."""
    fits = takes_last(x.dtype, len(w), groups) and w.shape[1] == 1
    return fits and w.shape[2] * w.shape[3] <= MOST_TAPS and x.size > 0


def step_last(shape, strides, kernel, grid, stride, padding, dilation):
    """The Step of depthwise_last for images of a shape and of strides in numbers."""
    options = kernel, 1, tuple(grid), stride, padding, dilation, 1, native.lib.threads()
    return conv_last.prepared("depthwise_last", None, None, shape, strides, *options)


def input_gradient_last(dy, w, size, stride, padding, dilation):
    """dx, an image of the given size, channels-last: the transposed convolution of dy"""
    dy = arranged(dy, True)
    (n, c, *grid), kernel, (h, width) = dy.shape, w.shape[2:], size
    pads = tuple([(t - 1) * d - p for t, d, p in zip(kernel, dilation, padding, strict=True)])
    if stride == (1, 1) and min(pads) >= 0:  # a convolution of dy
        step = step_last(dy.shape, conv_last.steps(dy)[1], kernel, size, stride, pads, dilation)
        return step(dy, weights.kept(w, "taps turned", taps_turned), None, None)
    shape, strides = (n, c, h, width), (h * width * c, 1, width * c, c)
    sizes = step_last(shape, strides, kernel, grid, stride, padding, dilation).sizes
    dx = memory.empty((n, h, width, c), dy.dtype)
    packed = weights.kept(w, "taps", taps_first)
    native.call("depthwise_last_input", channels_last(dy), packed, dx, sizes)
    return dx.transpose(0, 3, 1, 2)


def weight_gradient_last(x, dy, dw, stride, padding, dilation):
    """dw += Σ dy x"""
    x, dy = arranged(x, True), channels_last(arranged(dy, True))
    strides = tuple(s // x.itemsize for s in x.strides)
    options = dw.shape[2:], dy.shape[1:3], stride, padding, dilation
    sizes = step_last(x.shape, strides, *options).sizes
    chunks, lanes = min(CHUNKS, dy.shape[0] * dy.shape[1]), weights.lanes()
    taps, channels = dw.shape[2] * dw.shape[3], -(-len(dw) // lanes) * lanes
    work = memory.empty(chunks * taps * channels, x.dtype)
    native.call("depthwise_last_weight", channels_last(x), dy, dw, sizes, chunks, work)
