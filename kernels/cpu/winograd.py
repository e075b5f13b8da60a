"""Winograd's convolution F(m x m, 3 x 3): transformed weights, blocks, the call of winograd.c.

The largest error against float64, relative to the largest result, on layers of known networks:
m = 2: 5e-7, m = 4: 1e-5, m = 6: 2e-5, m = 7: 3e-5; the direct product has 2e-6, its sums being
longer.
"""

import functools

import numpy as np

from flambeau.kernels.cpu import memory, native, weights
from flambeau.kernels.cpu.conv_last import Step, pieces
from flambeau.kernels.cpu.layout import arranged, channels_last

BLOCK = 100_000  # numbers of a block: points and sums that a thread keeps in its caches
LARGEST = 100_000  # points of a block that stay near while its products are made
NEAR = 2_000_000  # numbers of weights that every block may read; of more, there are fewer blocks
FEWEST = 24  # tiles of such a block, or of one whose points do not stay near
COLUMNS = 64  # results of a tile that are summed before they are transformed
CACHED = 4_000_000  # numbers of weights that every block which threads share may read
DEEP = {2: 100, 4: 100, 6: 64, 7: 64}  # tiles of a block for the gradient of weights
TOGETHER = 4  # groups of its results whose sums lie together: see winograd_weight.c
TASKS = 8  # of a thread at least for the products of such a block
CHUNKS = 8  # of the tiles, with sums of their own, where sums are small
SUMS = 1_200_000  # numbers of all chunks' taps at most
LEAST = 64  # tiles of a chunk
FEW_THREADS = 4  # that each make all points, rather than share them
BY_BLOCKS, BY_PANELS, SHARED = range(3)  # of winograd_tiles.h
LONGEST = 128  # products of a sum that is exact enough
DEPTH = 32  # channels that are summed by themselves where points of weights are made
MADE_COLUMNS = 32  # results whose sums are made by them side by side
MADE_TILES = 32  # tiles of a block that makes them
SPREAD = 16  # numbers between the rows of points: powers of two apart they fight for cache lines


def block(m, tiles, c, k, threads):
    """Tiles and panels of a block, and what is a task: see winograd_tiles.h."""
    width, rows = weights.panel_width(), weights.tile_rows()
    rows *= max(1, 12 // rows)
    points, panels = (m + 2) ** 2, pieces(k, width)
    taken = min(panels, max(1, COLUMNS // width))
    if points * c * k > NEAR or points * rows * c > LARGEST:
        count = rows * pieces(FEWEST, rows)
        if tiles >= 2 * threads * count:
            return pieces(tiles, threads * pieces(tiles, threads * count)), taken, BY_BLOCKS
    elif tiles >= 2 * threads * rows:
        one = points * rows * (c + SPREAD + taken * width)
        count = rows * min(4, max(1, BLOCK // one))
        return pieces(tiles, pieces(tiles, count)), taken, BY_BLOCKS
    own = pieces(tiles, threads)
    if own >= (rows // 2 if points * c * k <= NEAR else rows):
        return own, taken, BY_BLOCKS
    blocks = pieces(tiles, rows * (4 if points * c * k <= CACHED else 7))
    parts = 2 if blocks > 1 else 4  # of a thread: one is slower than others, and all wait for it
    how = BY_PANELS if threads <= FEW_THREADS else SHARED
    return pieces(tiles, blocks), max(1, min(taken, panels // (parts * threads))), how


def side_of(m, pooled):
    """How many tiles of m x m results, down and across, are transformed together to be pooled."""
    return 2 if pooled and m % 2 else 1


def tiles_of(m, grid, pooled):
    """How many tiles of m x m results there are down and across a grid: whole squares of tiles."""
    side = side_of(m, pooled)
    return [side * pieces(g, side * m) for g in grid]


def makes(m, c, k):
    """True when the points of the weights are made as they are needed.

    All would be too many, or a sum of so many products less exact than said above.
    """
    return m == 7 and ((m + 2) ** 2 * c * k > NEAR or c > LONGEST)


def few(tiles):
    """True when a block of so many tiles has its points of weights made in registers."""
    return tiles <= weights.tile_rows() - 2


def making_block(tiles, k, threads):
    """The same as block() where the points of the weights are made for each block."""
    blocks, width = pieces(tiles, MADE_TILES), weights.panel_width()
    taken = min(max(1, MADE_COLUMNS // width), pieces(k, width))
    if blocks >= threads:
        return pieces(tiles, threads * pieces(blocks, threads)), taken, BY_BLOCKS
    alone = tiles <= MADE_TILES // 3 and threads <= FEW_THREADS
    return pieces(tiles, blocks), taken, BY_PANELS if alone else SHARED


def plan(m, shape, strides, k, grid, padding, pooled, threads, making):
    """What winograd.c needs to know, and how many numbers of scratch memory.

    making: the weights are taps, and become points as they are needed.
    """
    n, c, h, w = shape
    width, points, (down, across) = weights.panel_width(), (m + 2) ** 2, tiles_of(m, grid, pooled)
    side = side_of(m, pooled)
    all_tiles = n * down * across
    found = making_block(all_tiles, k, threads) if making else block(m, all_tiles, c, k, threads)
    tiles, panels, parted = pieces(found[0], side * side) * side * side, *found[1:]
    depth, line, taps, made = c, c + SPREAD, 0, 0
    if making:
        depth, line = (width // 2, width // 2) if few(tiles) else (DEPTH, DEPTH + SPREAD)
        taps, made = DEPTH, 8 * DEPTH * width
    point = tiles * line + SPREAD
    values = points * point * pieces(c, depth)
    sums = memory.apart(points * panels * tiles * width + made)
    image, _, row, column = strides
    sizes = [n, c, h, w, k, *grid, *padding, image, row, column, m, down, across, side]
    sizes += [tiles, panels, parted, depth, line, point, points * point, taps]
    sizes += [threads, values, sums, *(pooled or (0, 0)), k]
    copies = 1 if parted == SHARED else threads  # how often the points are there at a time
    return np.array(sizes), copies * values + threads * sums


def transformed(m, flipped, w):
    """w (k, c, 3, 3) as points of its taps: (panels, points, c, width).

    flipped: (panels, points, k, width) with the taps in reverse, the panels being those of c.
    """
    shape, panels = weights.packing(w, 1, flipped)
    size = (m + 2) ** 2 * panels // 9
    to = memory.empty(size, w.dtype)
    native.call("winograd_weights", w, to, shape, m)
    return to


def taps(flipped, w):
    """w (k, c, 3, 3) as winograd_taps.h reads it: (panels, 2, c, 9, width / 2).

    flipped: (panels, 2, k, 9, width / 2) with the taps in reverse, the panels being those of c.
    """
    shape, size = weights.packing(w, 1, flipped)
    to = memory.empty(size, w.dtype)
    native.call("winograd_taps", w, to, shape)
    return to


class TileStep(Step):
    """The Step of winograd.c, and how its weights are packed."""

    __slots__ = "m", "making"

    def __init__(self, m, making, *rest):
        super().__init__("winograd", *rest)
        self.m, self.making = m, making

    def packing(self, flipped):
        """The key and the maker of the weights, as weights.kept takes them.

        flipped: for the gradient instead, with the taps in reverse.
        """
        if self.making:
            return ("winograd taps", flipped), functools.partial(taps, flipped)
        return ("winograd", self.m, flipped), functools.partial(transformed, self.m, flipped)


@functools.lru_cache(maxsize=1024)
def prepared(m, limits, pitch, shape, strides, k, grid, padding, pooled, threads):
    """The TileStep for channels-last images of a shape and of strides in numbers.

    pooled: the grid of y where it has the greatest of each 2 x 2 results, or None.
    """
    making = makes(m, shape[1], k)
    sizes, work = plan(m, shape, strides, k, grid, padding, pooled, threads, making)
    return TileStep(m, making, shape[0], pooled or grid, k, sizes, work, limits, pitch)


def convolve(x, w, flipped, b, other, limits, k, m, grid, padding):
    """y = clamp(w * x + b + other, *limits), channels-last; b, other, limits may be None"""
    x = arranged(x, True)
    strides = tuple(s // x.itemsize for s in x.strides)
    options = strides, k, grid, padding, None, native.lib.threads()
    step = prepared(m, limits, None, x.shape, *options)
    return step(x, weights.kept(w, *step.packing(flipped)), b, other)


@functools.lru_cache(maxsize=512)
def weight_plan(m, shape, strides, k, grid, padding, threads):
    """What winograd_weight.c needs to know, and how many numbers of scratch memory."""
    n, c, h, w = shape
    width, points, pitch = weights.panel_width(), (m + 2) ** 2, left_pitch()
    down, across = pieces(grid[0], m), pieces(grid[1], m)
    tiles, groups, panels = n * down * across, pieces(k, weights.tile_rows()), pieces(c, width)
    chunks, blocks = cutting(m, tiles, c, k)
    count = pieces(pieces(tiles, chunks), blocks)
    image, _, row, column = strides
    sizes = [n, c, h, w, k, *grid, *padding, image, row, column, m, down, across, 1]
    sizes += [count, 1, 1, c, 0, 0, 0, 0, threads, 0, 0]
    block = points * (panels * (count + 1) * width + groups * (count * pitch + width))
    block += memory.APART
    parts, alone = max(1, min(groups, pieces(TASKS * threads, panels))), chunks >= threads
    own = points * TOGETHER * weights.tile_rows() * width + memory.APART
    taps = 9 * c * k * chunks if chunks > 1 else 0
    held = threads if alone else min(chunks * blocks, 2)
    work = taps + held * block + threads * own
    return np.array(sizes), parts, chunks, blocks, int(alone), work


def cutting(m, tiles, c, k):
    """How many chunks of the tiles have taps of their own, and how many blocks there are of each.

    A power of two, so that each thread takes as many. It does not depend on the threads.
    """
    chunks = 1 << min(CHUNKS, SUMS // (9 * c * k), tiles // LEAST).bit_length() >> 1
    chunks = max(1, chunks)
    return chunks, pieces(pieces(tiles, chunks), DEEP[m])


def left_pitch():
    """Numbers of a row of the packed left factor: those of a tile, in whole vectors."""
    lanes = weights.lanes()
    return pieces(weights.tile_rows(), lanes) * lanes


def takes_gradient(dw):
    """True when there are enough results and channels to fill vectors."""
    return dw.shape[0] >= left_pitch() and dw.shape[1] >= weights.lanes()


def add_weight_gradient(x, dy, dw, m, padding):
    """dw[k, c, p, q] += Σ dy[n, k, i, j] x[n, c, i + p - padding, …]"""
    x, dy = arranged(x, True), channels_last(arranged(dy, True))
    strides = tuple(s // x.itemsize for s in x.strides)
    threads = native.lib.threads()
    options = m, x.shape, strides, len(dw), dy.shape[1:3], padding, threads
    *sizes, work = weight_plan(*options)
    work = memory.empty(work, x.dtype)
    native.call("winograd_weight", channels_last(x), dy, dw, *sizes, work)
