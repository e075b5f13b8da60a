"""Convolution in channels-last memory: packed weights, blocks and the call of conv_last.c."""

import functools
import math

import numpy as np

from flambeau.kernels.cpu import memory, native, weights
from flambeau.kernels.cpu.arrays import contiguous
from flambeau.kernels.cpu.layout import arranged, channels_last, simple

WINDOWS = 48  # of a task: what they read stays in the caches
WHOLE = 196  # windows of a line that are not parted
STRIP = 60_000  # numbers of a copied strip, for the same reason
TASKS = 8  # of a thread at least, so that threads end together
KEPT = 75_000  # numbers of weights that stay in the caches for many strips: NEAR of conv_last.c
CHANNELS = 64  # of a share of a depthwise convolution
WASTE = 1.15  # so many rows of tiles to one that is used
PART = 24  # windows at least where those of a line are parted
MANY = 64  # results that make up for gathering
PARALLEL_ABOVE = 200_000  # multiply-adds
EVEN = 0, 0, 0, 0  # what conv_last.c is told of y's lines where all pixels stand at equal steps


def takes(k, groups):
    """True when a group has enough results to fill vectors."""
    return groups == 1 or k // groups >= 16


def pieces(n, size):
    """How many pieces of at most `size` make n."""
    return -(-n // size)


def shares(n, size):
    """n in equal pieces of at most `size`: the size of a piece."""
    return pieces(n, pieces(n, size))


def plan(shape, strides, kernel, k, grid, stride, padding, dilation, groups, threads):
    """What conv_last.c needs to know, and how many numbers of scratch memory."""
    (n, c, h, w), (p, q) = shape, kernel
    c, k = c // groups, k // groups
    sides = zip(grid, stride, kernel, dilation, padding, strict=True)
    reads = [(g - 1) * s + (t - 1) * d - pad for g, s, t, d, pad in sides]
    copies = max(padding) > 0 or strides[1] != 1 or reads[0] >= h or reads[1] >= w
    simple = (p, q) == stride == (1, 1) and grid == (h, w)
    if n and not copies and simple and one_line(shape, strides):
        n, h, w, grid = 1, 1, n * h * w, (1, n * h * w)
    if n * grid[0] * grid[1] * k * groups * c * p * q < PARALLEL_ABOVE:
        threads = 1
    gathers = gathered_rows(c, kernel, k, grid, dilation, copies or max(stride) > 1)
    thin = max(kernel) > 1 and c < weights.lanes()  # much is made of little
    columns = grid[1] if gathers or thin or grid[1] <= WHOLE else shares(grid[1], WINDOWS)
    wide = ((columns - 1) * stride[1] + (q - 1) * dilation[1] + 1) * c
    lines = max(1, 2 * WINDOWS // columns)
    if gathers or thin:
        lines = max(1, STRIP // ((gathers or p) * q * c * columns or 1))
    elif copies:
        lines = max(lines, (STRIP // wide - (p - 1) * dilation[0]) // stride[0])
    most = n * groups * grid[0] * pieces(grid[1], columns) // (TASKS * threads)
    if most >= lines // 4:  # enough strips for all threads, none too thin
        lines = min(lines, max(1, most))
    lines = shares(grid[0], min(lines, grid[0]))
    panels = pieces(k, weights.panel_width())
    tasks = n * groups * pieces(grid[0], lines) * pieces(grid[1], columns)
    taken = panels
    if threads > 1 and tasks < TASKS * threads:
        count = pieces(TASKS * threads, tasks) if not copies else pieces(2 * threads, tasks)
        taken = pieces(panels, count)
        halves = tasks * pieces(k, weights.lanes())  # the last panel may be half a one
        tasks *= pieces(panels, taken)
        if tasks < TASKS * threads and lines == 1 and not copies:
            columns = evenly(columns, math.gcd(tasks, halves) if taken == 1 else tasks, threads)
    elif not copies and not gathers:
        taken = shares(panels, max(1, KEPT // (c * p * q * weights.panel_width() or 1)))
    rows = (lines - 1) * stride[0] + (p - 1) * dilation[0] + 1
    work = memory.apart(copies * rows * wide + gathers * lines * columns * q * c)
    sizes = [n, groups, c, h, w, k, p, q, *grid, *stride, *padding, *dilation, *strides]
    sizes += [copies, gathers, lines, columns, taken, threads, work, *EVEN, groups * k]
    return np.array(sizes), threads * work


def plan_depthwise(shape, strides, taps, k, grid, stride, padding, dilation, groups, threads):
    """The same for depthwise_last.c: lines and shares of the channels, nothing is copied."""
    n, c, h, w = shape
    if n * grid[0] * grid[1] * c * taps[0] * taps[1] < PARALLEL_ABOVE:
        threads = 1
    shares = max(1, c // CHANNELS)
    lines = max(1, n * shares * grid[0] // (TASKS * threads))
    sizes = [n, 1, c, h, w, 1, *taps, *grid, *stride, *padding, *dilation, *strides]
    sizes += [0, 0, min(lines, grid[0]), grid[1], shares, threads, 0, *EVEN, c]
    return np.array(sizes), 0


def evenly(columns, tasks, threads):
    """Columns of a task, of so many, so that all threads have as many of the tasks."""
    parts = threads // math.gcd(tasks, threads)
    return shares(columns, max(PART, pieces(columns, parts)))


def gathered_rows(c, kernel, k, grid, dilation, spread):
    """Of how many rows of taps at a time what a window reads is gathered; 0 for not at all.

    It pays where lines are short: tiles would end with them.
    spread: the windows do not lie one after another.
    """
    (p, q), rows, least = kernel, weights.tile_rows(), weights.lanes()
    run = q * c if dilation[1] == 1 else c
    waste = pieces(grid[1], rows) * rows / max(1, grid[1])
    if not spread or run < least:
        return 0
    if waste < WASTE or k < MANY or c < least:
        return 0
    return max(1, min(p, STRIP // (grid[0] * grid[1] * q * c or 1)))


def one_line(shape, strides):
    """True when all pixels of all images lie at equal steps."""
    n, _, h, w = shape
    image, _, row, column = strides
    return (h == 1 or row == w * column) and (n == 1 or image == h * w * column)


def steps(x):
    """x and its strides in numbers; of a copy where its memory is not laid out simply."""
    x = x if simple(x) else arranged(x, True)
    return x, tuple(s // x.itemsize for s in x.strides)


class Step:
    """A kernel of channels-last convolution, prepared for images of one shape and strides.

    y (n, k, *grid) = clamp(w * x + b + other, *limits), w packed; b, other, limits may be None.
    sizes: the kernel's description of the arrays. work: numbers of scratch memory.
    pitch: the numbers from a pixel of y to the next, where y is a part of more channels; or, for
    conv_last, those from an image, a line and a pixel to the next, where y is some pixels of more.
    """

    __slots__ = "kernel", "place", "sizes", "work", "limits"

    def __init__(self, kernel, n, grid, k, sizes, work, limits, pitch):
        self.kernel, self.place, self.sizes, self.work = kernel, (n, *grid, k), sizes, work
        if isinstance(pitch, tuple):
            sizes[-5:] = *grid, *pitch
        else:
            sizes[-1] = pitch or k
        self.limits = None if limits is None else np.array(limits, np.float32)

    def __call__(self, x, packed, b, other):
        y = memory.empty(self.place, x.dtype)
        other = None if other is None else channels_last(other)
        self.into(y, x, packed, b, other)
        return y.transpose(0, 3, 1, 2)

    def into(self, y, x, packed, b, other):
        """Compute it in the memory of y, (n, *grid, k) or a part of more."""
        if y.size:
            b = b if b is None or b.flags.c_contiguous else contiguous(b)
            work = memory.empty(self.work, x.dtype) if self.work else None
            place = native.address(x), packed, b, other, native.address(y)
            native.call(self.kernel, *place, self.sizes, self.limits, work)


@functools.lru_cache(maxsize=1024)
def prepared(kernel, limits, pitch, shape, strides, taps, k, grid, *options):
    """The Step of conv_last or depthwise_last; options: stride, padding, dilation, groups, threads.

    strides: of x, in numbers. depthwise_last has as many results as channels, whatever k is.
    """
    depthwise = kernel == "depthwise_last"
    planned = plan_depthwise if depthwise else plan
    sizes, work = planned(shape, strides, taps, k, grid, *options)
    results = shape[1] if depthwise else k
    return Step(kernel, shape[0], grid, results, sizes, work, limits, pitch)


def convolve(x, packed, b, other, limits, k, kernel, grid, stride, padding, dilation, groups):
    """y = clamp(w * x + b + other, *limits), channels-last; b, other, limits may be None"""
    x, strides = steps(x)
    options = stride, padding, dilation, groups, native.lib.threads()
    step = prepared("conv_last", limits, None, x.shape, strides, kernel, k, grid, *options)
    return step(x, packed, b, other)
