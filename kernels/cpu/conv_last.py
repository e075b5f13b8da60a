"""Convolution in channels-last memory: packed weights, blocks and the call of conv_last.c."""

import functools

import numpy as np

from flambeau.kernels.cpu import memory, native, weights
from flambeau.kernels.cpu.arrays import contiguous
from flambeau.kernels.cpu.layout import arranged, channels_last, empty_channels_last

WINDOWS = 98  # of a task: what they read stays in the second-level cache
STRIP = 60_000  # numbers of a copied strip, for the same reason
TASKS = 4  # of a thread at least, so that threads end together
PARALLEL_ABOVE = 200_000  # multiply-adds


def takes(x, w, groups):
    """True when a group has enough results to fill vectors."""
    return x.dtype == np.float32 and (groups == 1 or len(w) // groups >= 16)


def pieces(n, size):
    """How many pieces of at most `size` make n."""
    return -(-n // size)


def shares(n, size):
    """n in equal pieces of at most `size`: the size of a piece."""
    return pieces(n, pieces(n, size))


@functools.lru_cache(maxsize=512)
def plan(shape, strides, kernel, k, grid, stride, padding, dilation, groups, threads):
    """What conv_last.c needs to know, and how many numbers of scratch memory."""
    (n, c, h, w), (p, q) = shape, kernel
    c, k = c // groups, k // groups
    sides = zip(grid, stride, kernel, dilation, padding, strict=True)
    reads = [(g - 1) * s + (t - 1) * d - pad for g, s, t, d, pad in sides]
    copies = max(padding) > 0 or strides[1] != 1 or reads[0] >= h or reads[1] >= w
    simple = (p, q) == stride == (1, 1) and grid == (h, w)
    if not copies and simple and one_line(shape, strides):
        n, h, w, grid = 1, 1, n * h * w, (1, n * h * w)
    if n * grid[0] * grid[1] * k * groups * c * p * q < PARALLEL_ABOVE:
        threads = 1
    columns = shares(grid[1], WINDOWS) if grid[1] > 2 * WINDOWS else grid[1]
    wide = ((columns - 1) * stride[1] + (q - 1) * dilation[1] + 1) * c
    lines = max(1, WINDOWS // columns)
    if copies:
        lines = max(lines, (STRIP // wide - (p - 1) * dilation[0]) // stride[0])
    lines = shares(grid[0], min(lines, max(1, n * grid[0] // threads)))
    panels = pieces(k, weights.panel_width())
    tasks = n * groups * pieces(grid[0], lines) * pieces(grid[1], columns)
    taken = panels
    if threads > 1 and tasks < TASKS * threads:
        taken = shares(panels, max(1, panels * tasks // (TASKS * threads)))
    rows = (lines - 1) * stride[0] + (p - 1) * dilation[0] + 1
    work = rows * wide if copies else 0
    sizes = [n, groups, c, h, w, k, p, q, *grid, *stride, *padding, *dilation, *strides]
    return np.array([*sizes, copies, lines, columns, taken, threads, work]), threads * work


def one_line(shape, strides):
    """True when all pixels of all images lie at equal steps."""
    n, _, h, w = shape
    image, _, row, column = strides
    return (h == 1 or row == w * column) and (n == 1 or image == h * w * column)


def steps(x):
    """The strides of x in numbers, and x itself; a copy where memory is not laid out simply."""
    strides = [s // x.itemsize for s in x.strides]
    if x.flags.aligned and min(strides) >= 0 and all(s % x.itemsize == 0 for s in x.strides):
        return x, tuple(strides)
    return steps(arranged(x, True))


def convolve(x, packed, b, other, limits, k, kernel, grid, stride, padding, dilation, groups):
    """y = clamp(w * x + b + other, *limits), channels-last; b, other, limits may be None"""
    y = empty_channels_last((len(x), k, *grid), x.dtype)
    options = kernel, k, grid, stride, padding, dilation, groups
    run("conv_last", x, packed, b, other, limits, y, options)
    return y


def channel_by_channel(x, w, b, other, limits, grid, stride, padding, dilation):
    """The same where each channel has one filter, w (c, 1, p, q)."""
    y = empty_channels_last((len(x), len(w), *grid), x.dtype)
    packed = weights.kept(w, "taps", lambda w, old: contiguous(w.reshape(len(w), -1).T))
    options = w.shape[2:], 1, grid, stride, padding, dilation, 1
    run("depthwise_last", x, packed, b, other, limits, y, options)
    return y


def run(kernel, x, packed, b, other, limits, y, options):
    """Call a kernel of channels-last convolution."""
    if y.size == 0:
        return
    x, strides = steps(x)
    shape, work = plan(x.shape, strides, *options, native.lib.threads())
    limits = None if limits is None else np.array(limits, x.dtype)
    b = None if b is None else contiguous(b)
    other = None if other is None else channels_last(other)
    place = native.address(x), packed, b, other, channels_last(y)
    native.call(kernel, *place, shape, limits, memory.empty(work, x.dtype))
