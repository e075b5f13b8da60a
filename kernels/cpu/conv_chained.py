"""A convolution, the depthwise one behind it and a 1 x 1 convolution of that in one pass."""

import functools
import math

import numpy as np

from flambeau.kernels.cpu import conv_algorithm, conv_last, memory, native, weights
from flambeau.kernels.cpu.arrays import contiguous, readable
from flambeau.kernels.cpu.conv import conv2d_fused, limits_of
from flambeau.kernels.cpu.layout import channels_last
from flambeau.kernels.reference.conv import output_size

# In numbers: what stays in the first-level cache, the others in the second-level cache.
RING = 6_000  # of the rows of a panel
BETWEEN = 100_000  # of the rows of all panels, and what the last convolution reads
STRIP = 100_000  # of x, which several panels read
LAST = 250_000  # between the last two, from which on these do not stay in the caches
MOST_TAPS = 5  # of rings.c
READ = 256  # by a window of planes at most
WASTE = 1.1  # rows of tiles to one that is used, from which on short rows are computed together
STRIPS = 16  # of an image at most, or two for each thread


def conv2d_chained(x, other, ws, bs, bounds, options):
    """y = conv2d_fused(…, w, b, None, *bounds, *options) of x, of that and so on

    The last adds `other`, which may be None.
    """
    chain = _chain(x, other, ws, bs, options)
    if chain is None:
        return _one_by_one(x, other, ws, bs, bounds, options)
    count = 3 if chain.last else 2
    pointwise = not chain.planes
    x = channels_last(x) if pointwise else contiguous(x)
    y = memory.empty((len(x), *chain.grid, len(ws[count - 1])), x.dtype)
    if y.size:
        arrays = [x, *_packed(ws[:count], bs, bounds, pointwise)]
        added = None if other is None or count == 2 else channels_last(other)
        work = memory.empty(chain.work, x.dtype)
        native.call("chained_last", *arrays, added, y, chain.sizes, work)
    y = y.transpose(0, 3, 1, 2)
    rest = [part[count:] for part in (ws, bs, bounds, options)]
    return _one_by_one(y, other, *rest) if rest[0] else y


def _one_by_one(x, other, ws, bs, bounds, options):
    """The convolutions of a chain one after another."""
    for i, (w, b, limits, each) in enumerate(zip(ws, bs, bounds, options, strict=True)):
        x = conv2d_fused(x, w, b, other if i == len(ws) - 1 else None, *limits, *each)
    return x


def _packed(ws, bs, bounds, pointwise):
    """The weights, biases and ranges of three convolutions as rings.c takes them."""
    makers = [
        weights.panels_of(1, False) if pointwise else ("planes", _planes),
        ("taps by panel", _taps_by_panel),
        weights.panels_of(1, False),
    ]
    found = []
    for w, maker, b, limits in zip(ws, makers, bs, bounds, strict=False):
        found += [weights.kept(w, *maker), readable(b), _range(*limits)]
    return found + [None] * (9 - len(found))


def _planes(w):
    """w (k, c, p, q) in panels whose rows are in the order c, p, q"""
    return weights.pack(1, False, w.reshape(len(w), -1, 1, 1))


def _taps_by_panel(w):
    """w (k, 1, p, q) as (panels, p q, results of a panel), zeros where there are none"""
    k, taps, width = len(w), math.prod(w.shape[2:]), weights.panel_width()
    found = np.zeros((conv_last.pieces(k, width) * width, taps), w.dtype)
    found[:k] = w.reshape(k, taps)
    return contiguous(found.reshape(-1, width, taps).swapaxes(1, 2))


@functools.lru_cache(maxsize=64)
def _range(low, high):
    limits = limits_of(low, high)
    return None if limits is None else np.array(limits, np.float32)


def _chain(x, other, ws, bs, options):
    """The Chain for these arrays, None where the kernel is not written for them."""
    if conv_algorithm.forced() or x.dtype != np.float32 or not native.takes(x, other, *ws, *bs):
        return None
    if other is not None and len(ws) == 2:  # rings.c adds only to what a last 1 x 1 gives
        return None
    return planned(x.shape, tuple([w.shape for w in ws]), tuple(options), native.lib.threads())


@functools.lru_cache(maxsize=512)
def planned(shape, shapes, options, threads):
    """The Chain for x of a shape and weights of these shapes; None where there is none."""
    return Chain(shape, shapes, options, threads) if _fits(shapes, options) else None


def _fits(shapes, options):
    """True where rings.c is written for such windows, and a window of planes reads little."""
    (k, _, p, q), (stride, _, dilation, _) = shapes[1], options[1]
    narrow = p <= MOST_TAPS and q in (3, 5) and stride[1] in (1, 2) and dilation[1] == 1
    together = options[0][2][1] == 1 and math.prod(shapes[0][1:]) <= READ
    begins = together or _pointwise(shapes[0], options[0])
    return narrow and begins and k % weights.lanes() == 0


def _pointwise(shape, options):
    """True when every window is one pixel, in order."""
    (stride, padding, _, _), kernel = options, shape[2:]
    return kernel == stride == (1, 1) and not any(padding)


class Chain:
    """How rings.c computes a chain.

    x (n, c, *size) -> (n, k, *between) -> (n, k, *grid) -> (n, last, *grid), last 0 where the last
    convolution is not part of it. sizes: the kernel's description; work: numbers of memory.
    """

    def __init__(self, shape, shapes, options, threads):
        self.n, self.c, *self.size = shape
        (self.k, _, *self.kernel), (_, _, *self.taps) = shapes[:2]
        self.first, self.second = options[:2]
        self.between = output_size(self.size, self.kernel, *self.first[:3])
        self.grid = output_size(self.between, self.taps, *self.second[:3])
        self.planes = not _pointwise(shapes[0], self.first)
        values = self.grid[0] * self.grid[1] * self.k
        self.last = shapes[2][0] if len(shapes) > 2 and values >= LAST else 0
        self.panels = conv_last.pieces(self.k, weights.panel_width())
        self.taken = self.panels if self.last else 1
        small = self.n * self.k * self.cost(self.grid[0]) < conv_last.PARALLEL_ABOVE
        self.threads = 1 if small else threads
        lines = self.lines() if self.n and min(self.grid) > 0 else 1
        self.describe(lines, conv_last.shares(lines, self.block(lines)))

    def rows(self, lines):
        """How many rows of the first's results so many lines of windows read."""
        (down, _), _, (step, _), _ = self.second
        most = (lines - 1) * down + (self.taps[0] - 1) * step + 1
        return max(1, min(self.between[0], most))

    def cost(self, lines):
        """Multiply-adds of so many lines, for one channel."""
        first = self.rows(lines) * self.between[1] * self.c * math.prod(self.kernel)
        return first + lines * self.grid[1] * (math.prod(self.taps) + self.last)

    def lines(self):
        """How many lines a task has: so that the threads end soonest and x stays in the cache."""
        tasks, height = self.n * self.panels // self.taken, self.grid[0]
        most = max(STRIPS, 2 * self.threads)
        found = {conv_last.pieces(height, count) for count in range(1, most + 1)}
        near = [m for m in found if self.taken > 1 or self.x_of(m) <= STRIP] or [min(found)]

        def longest(lines):
            mine = conv_last.pieces(tasks * conv_last.pieces(height, lines), self.threads)
            return mine * self.cost(lines), -lines

        return min(near, key=longest)

    def x_of(self, lines):
        """About how many numbers of x so many lines read."""
        return self.rows(lines) * self.first[0][0] * self.size[1] * self.c

    def row(self):
        """Numbers of a row of a ring, with its zeros."""
        (_, across), pads, _, _ = self.second
        reach = (self.grid[1] - 1) * across + self.taps[1]
        return weights.panel_width() * max(pads[1] + self.between[1], reach)

    def block(self, lines):
        """How many lines are computed at a time, so that what is between stays in the caches."""

        def fits(m):
            ring = self.rows(m) * self.row()
            more = self.last and self.panels * ring + m * self.grid[1] * self.k > BETWEEN
            return ring <= RING and not more

        return next((m for m in range(lines, 1, -1) if fits(m)), 1)

    def describe(self, lines, block):
        """Set `sizes` and `work`."""
        (h, w), rows, image = self.size, self.rows(block), self.c * math.prod(self.size)
        columns = (self.between[1] - 1) * self.first[0][1] + self.kernel[1]
        source = self.planes * rows * self.c * self.kernel[0] * columns
        beside = self.flat() * rows * self.between[1] * weights.panel_width()
        rings = self.taken * rows * self.row()
        work = source + beside + rings + (self.last > 0) * block * self.grid[1] * self.k
        work = memory.apart(work)
        first = [self.n, 1, self.c, h, w, self.k, *self.kernel, *self.between]
        first += [*self.first[0], *self.first[1][:2], *self.first[2], image, h * w, w, 1]
        second = [self.n, 1, self.k, *self.between, 1, *self.taps, *self.grid]
        second += [*self.second[0], *self.second[1][:2], *self.second[2], 0, 0, 0, 0]
        second += [0, 0, lines, 0, self.taken, self.threads, work, *[0] * 5]
        chain = [self.planes, block, rows, self.row(), self.flat(), self.last, source, beside]
        self.sizes = np.array([*first, *[0] * 12, *second, *chain])
        self.work = self.threads * work

    def flat(self):
        """True when rows of what is between would leave tiles half empty."""
        tile, width = weights.tile_rows(), self.between[1]
        return not self.planes and -(-width // tile) * tile > WASTE * width
