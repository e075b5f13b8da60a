"""Convolution in C order as a matrix product over patches: planning and the calls of conv.c.

For what the kernels for channels-last memory do not take: other types than float32, thin groups.
"""

import math

import numpy as np

from flambeau.kernels.cpu import memory, native
from flambeau.kernels.cpu.arrays import contiguous
from flambeau.kernels.cpu.conv_last import PARALLEL_ABOVE, shares

DEPTH = 256  # terms of a sum that are taken in one go, so that panels stay in the caches
COLUMNS = 384  # results of a row in a block
WIDTH = 32  # blocks are multiples of the widest tile's columns
HEIGHT = 16  # no tile of any instruction set is higher


def up(n, size):
    """n rounded up to a multiple of size."""
    return -(-n // size) * size


def threads(work):
    """How many threads so many multiply-adds are worth."""
    return native.lib.threads() if work > PARALLEL_ABOVE else 1


def pointwise(size, kernel, grid, stride, start):
    """True when every window is one element of the image, in order."""
    return kernel == stride == (1, 1) and start == (0, 0) and grid == size


def gather(x, w, b, y, grid, stride, start, step, place):
    """y at its places = Σ w[g, k, c, p, q] x[n, (g, c), i stride + start + p step, …] + b[(g, k)]

    place: where y keeps the windows: start, strides of image, channel, row, column.
    """
    groups, k, _, p, q = w.shape
    if pointwise(x.shape[2:], (p, q), grid, stride, start) and place[3:] == (grid[1], 1):
        x, grid = x.reshape(*x.shape[:2], 1, -1), (1, grid[0] * grid[1])
        place = *place[:3], grid[1], 1
    n, c, h, width = x.shape
    turned = w.swapaxes(1, 2)
    if p * q > 1 or not turned.flags.c_contiguous:
        w = turned = contiguous(w)
    strides = [s // w.itemsize for s in w.strides[:3]]
    windows = n * grid[0] * grid[1]
    count = threads(windows * w.size)
    blocks = -(-windows // COLUMNS)
    rows = k
    if groups * blocks % count and k > windows:
        rows = -(-k // count)
    elif groups % count:
        blocks = up(blocks, count)
    columns = up(-(-windows // blocks), HEIGHT)
    channels = shares(c // groups, max(1, DEPTH // (p * q)))
    size = memory.apart(channels * p * q * (HEIGHT + up(columns, WIDTH)))
    shape = [n, groups, c // groups, h, width, k, p, q, *grid, *stride, *start, *step, *place]
    shape = np.array([*shape, *strides, rows, columns, channels, count, size])
    native.call("conv2d", x, turned, b, y, shape, memory.empty(count * size, x.dtype))


def convolve(x, w, b, y, stride, padding, dilation, groups):
    """y = w * x + b        all contiguous"""
    grid = y.shape[2:]
    plane = grid[0] * grid[1]
    start = -padding[0], -padding[1]
    place = 0, len(w) * plane, plane, grid[1], 1
    w = w.reshape(groups, -1, *w.shape[1:])
    gather(x, w, b, y, grid, stride, start, dilation, place)


def phases(size, taps, stride, padding, dilation):
    """The rows of a transposed convolution's result that are read by the same taps.

    Yields (first row, number of rows, slice of the taps, start, step): row first + i stride is
    the sum over these taps j of source row i + start + j step.
    """
    period = stride // math.gcd(stride, dilation)
    for first in range(min(stride, size)):
        fits = (
            j for j in range(min(period, taps)) if (first + padding - j * dilation) % stride == 0
        )
        tap = next(fits, taps)
        start = (first + padding - tap * dilation) // stride
        yield (
            first,
            -(-(size - first) // stride),
            slice(tap, None, period),
            start,
            -dilation * period // stride,
        )


def transposed(x, w, b, y, stride, padding, dilation, groups):
    """y = the transposed convolution + b        all contiguous"""
    size = y.shape[2:]
    w = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)  # group, result, source, p, q
    columns = list(phases(size[1], w.shape[4], stride[1], padding[1], dilation[1]))
    image, plane = y[0].size, size[0] * size[1]
    for i, height, rows, start_h, step_h in phases(
        size[0], w.shape[3], stride[0], padding[0], dilation[0]
    ):
        for j, width, cols, start_w, step_w in columns:
            part = w[:, :, :, rows, cols]
            if part.size == 0 or x.size == 0:
                y[:, :, i :: stride[0], j :: stride[1]] = 0 if b is None else b[:, None, None]
                continue
            place = i * size[1] + j, image, plane, stride[0] * size[1], stride[1]
            grid, start, step = (height, width), (start_h, start_w), (step_h, step_w)
            gather(x, part, b, y, grid, (1, 1), start, step, place)


def add_weight_gradient(x, dy, dw, stride, padding, dilation, groups):
    """dw[k, c, p, q] += Σ dy[n, k, i, j] x[n, c, i stride + p dilation - padding, …]

    x and dy contiguous and not empty.
    """
    n, c, h, width = x.shape
    k, (p, q), grid = len(dw) // groups, dw.shape[2:], dy.shape[2:]
    if pointwise((h, width), (p, q), grid, stride, padding):
        h, width, grid = 1, h * width, (1, grid[0] * grid[1])
    count = threads(dw.size * n * grid[0] * grid[1])
    channels = shares(c // groups, max(1, COLUMNS // (p * q)))
    blocks = groups * -(-c // groups // channels)
    rows = k if blocks % count == 0 or blocks >= 4 * count else -(-k // count)
    depth = shares(grid[0] * grid[1], DEPTH)
    size = memory.apart(depth * (channels * p * q + HEIGHT + up(channels * p * q, WIDTH)))
    start = -padding[0], -padding[1]
    shape = [n, groups, c // groups, h, width, k, p, q, *grid, *stride, *start, *dilation]
    shape = np.array([*shape, *[0] * 8, rows, depth, channels, count, size])
    native.call("conv2d_weight", x, dy, dw, shape, memory.empty(count * size, x.dtype))
