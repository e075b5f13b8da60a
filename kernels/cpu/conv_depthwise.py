"""Convolution channel by channel: lays out the phases of the stride for conv_depthwise.c."""

import functools

import numpy as np

from flambeau.kernels.cpu import memory, native, weights

MOST_FILTERS = 4  # a channel with more is better served by the matrix product
SPARE = 64  # numbers that the widest loop may touch past the end
PARALLEL_ABOVE = 100_000  # multiply-adds


def takes(shape, groups):
    """True when each channel has few filters of its own: weights of a shape (k, 1, p, q)."""
    return groups > 1 and shape[1] == 1 and shape[0] // groups <= MOST_FILTERS


def takes_last(dtype, k, groups):
    """True when a channel has one filter, and the channels fill vectors of the kernel for them."""
    return dtype == np.float32 and k == groups >= weights.panel_width() // 2


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
    size = (stride[0] * stride[1] + 1) * plane + margin
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
