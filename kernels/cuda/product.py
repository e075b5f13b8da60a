"""Products of matrices: which tiles, how many parts, and their sum."""

import functools
import math

from flambeau.kernels.cuda import device, source
from flambeau.kernels.cuda.arrays import empty

# rows and columns of a tile, and the share of the arithmetic's peak that it reaches
tiles = (128, 128, 1.0), (64, 128, 0.92), (64, 64, 0.84), (32, 128, 0.75)

_PROCESSORS = 132  # multiprocessors to be filled, those of an H100
_THREADS = 384  # of a multiprocessor, below which each takes as long
_STEP = 8  # DEPTH of product.h
_LEAST = 64  # the least depth of a part
_START = 40  # what a tile costs besides, in depths
_LAUNCH = 4000  # what one more launch costs, in cycles
_BYTES = 2000  # that are read or written in a cycle
_RATE = 128  # multiplications of a multiprocessor in a cycle


def product(a, b, bias, other, y, sizes, a_strides, b_strides):
    """y = a b + bias + other: a (m, depth), b (depth, n) as strides over their memory

    y (m, n); bias (n,) and other (m, n) or None, other may be y
    """
    numbers, (rows, columns), parts, blocks = _product(*sizes, *a_strides, *b_strides)
    m, n, _ = sizes
    kernel = f"product_{rows}x{columns}"
    if parts == 1:
        device.launch_blocks("product", kernel, blocks, a, b, bias, other, y, numbers, 1)
        return
    target = empty(y, (parts, m, n), y.dtype)
    device.launch_blocks("product", kernel, blocks, a, b, None, None, target, numbers, parts)
    join(target, bias, other, y, n, 1, 0, n)


def join(parts, b, other, y, channels, inner, first, outer, low=-math.inf, high=math.inf):
    """y = clamp(Σ parts + b + other, low, high): parts of (n, channels, inner), b a value a channel

    The channels are those of y, whose images are `outer` apart, from value `first` of each image.
    """
    size = parts.size // parts.shape[0]
    options = size, parts.shape[0], channels, inner, first, outer, low, high
    device.launch("product", "join", size, parts, b, other, y, *options)


@functools.lru_cache(4096)
def _product(m, n, depth, am, ak, bk, bn):
    """The numbers of a product, its tile, its parts and the number of blocks."""
    orders = order(ak, am, depth, m), order(bk, bn, depth, n)
    if ANY in orders or orders == (ACROSS, ALONG):
        orders = ANY, ANY
    numbers = source.record(
        "product", "Product", m=m, n=n, depth=depth, am=am, ak=ak, bk=bk, bn=bn,
        a_order=orders[0], b_order=orders[1],
    )  # fmt: skip
    return numbers, *plan(m, n, depth, 1)


ALONG, ACROSS, ANY = range(3)  # of product.h


def order(depth_step, row_step, depth, rows):
    """How the values of a factor lie for loads of four at a time."""
    if depth_step == 1 and row_step % 4 == 0 and depth % 4 == 0:
        return ALONG
    return ACROSS if row_step == 1 and depth_step % 4 == 0 and rows % 4 == 0 else ANY


@functools.lru_cache(4096)
def plan(rows, columns, depth, groups):
    """The tile, (rows, columns), and the parts of the depth, which cost least, and the blocks."""
    most = max(1, min(256, depth // _LEAST))
    counts = sorted({1, *range(1, min(most, 32) + 1), *(most * i // 16 for i in range(1, 17))})
    counts = [count for count in counts if count]
    _, tile, parts = min(
        (_cycles(rows, columns, depth, groups, *tile, parts), tile[:2], parts)
        for tile in tiles
        for parts in counts
    )
    return tile, parts, _blocks(rows, columns, groups, *tile) * parts


def _blocks(rows, columns, groups, tile_rows, tile_columns):
    return groups * -(-rows // tile_rows) * -(-columns // tile_columns)


def _cycles(rows, columns, depth, groups, tile_rows, tile_columns, share, parts):
    """The estimated time: that of the multiprocessor with most tiles, and the sum of the parts."""
    blocks = _blocks(rows, columns, groups, tile_rows, tile_columns) * parts
    threads = -(-blocks // _PROCESSORS) * tile_rows * tile_columns // 64
    each = math.ceil(depth / parts / _STEP) * _STEP + _START
    cycles = max(threads / share, _THREADS) * 64 * each / _RATE
    if parts > 1:
        cycles += _LAUNCH + 2 * parts * groups * rows * columns * 4 / _BYTES
    return cycles
