"""Which algorithm a convolution takes: a cost model of a few measured numbers."""

import contextlib
import functools
import math
import os

import numpy as np

from flambeau.kernels.cpu import conv_depthwise, conv_last, weights, winograd
from flambeau.kernels.reference.conv import output_size

NAMES = "patches", "depthwise", "direct", "winograd2", "winograd4", "winograd6", "winograd7"

# Costs in multiply-adds of a full matrix product, measured with AVX2; those of tiles of 2, 4 and 7
# with AVX-512 too.
PRODUCT = 1.1  # of a multiply-add between points
TRANSFORM = {2: 8, 4: 12, 6: 18, 7: 22}  # of a point of a tile and a channel, in or out
WEIGHT = 10  # of reading a weight: memory does not get faster with the two threads assumed
MAKING = 780  # of making the points of a weight, for each block of tiles
AT_ONCE = 1.4, 190  # instead of PRODUCT and MAKING, where both is done at once: see winograd.few
CAUTION = {2: 1.0, 4: 1.0, 6: 1.05, 7: 1.0}  # tiles of 6 gain little beside those of 4 and 7
FEW_CHANNELS = 64  # whose sums round so little that tiles of 7 would be most of the error
POOLING = 38  # of a result that is pooled later, not while it is made
SUM = 50  # of clearing a sum of the gradient of weights and of adding it to them
TAPS = 14  # of a point's sum, for each block of tiles, on its way to the gradient
FEWEST = 50_000  # multiply-adds; below, a call costs more than the arithmetic

_forced = os.environ.get("FLAMBEAU_CONV")


@contextlib.contextmanager
def use(name):
    """Inside, every convolution that can takes this algorithm (see NAMES); None: the best.

    The environment variable FLAMBEAU_CONV does the same for a whole process.
    """
    global _forced
    check(name)
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def forced():
    """The algorithm that use() or the environment asks for, or None."""
    return _forced


def check(name):
    """Raise ValueError unless name is an algorithm or None."""
    if name not in (None, *NAMES):
        raise ValueError(f"an algorithm of convolution is {', '.join(NAMES)} — got {name!r}")


check(_forced)


def algorithm(x, w, stride, padding, dilation, groups):
    """The name of the algorithm that conv2d takes for these arrays.

    "patches": a matrix product of packed patches. "depthwise": channel by channel. "direct": a
    matrix product over channels-last pixels. "winograd2", "4", "6", "7": tiles of so many results.

    >>> import numpy as np
    >>> x, w = np.zeros((1, 64, 56, 56), "f4"), np.zeros((64, 64, 3, 3), "f4")
    >>> algorithm(x, w, (2, 2), (1, 1), (1, 1), 1)
    'direct'
    """
    grid = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    return chosen(x.dtype, len(x), w.shape, grid, stride, dilation, groups)


def chosen(dtype, n, shape, grid, stride, dilation, groups, pooled=False):
    """The same for n images, weights of a shape and a grid of windows.

    pooled: of the results the greatest of each 2 x 2 are wanted.
    """
    if conv_depthwise.takes(shape, groups):
        return "depthwise"
    if _forced == "patches" or dtype != np.float32 or not conv_last.takes(shape[0], groups):
        return "patches"
    return tiles(shape, n, grid, stride, dilation, groups, pooled)


def tiles(shape, n, grid, stride, dilation, groups, pooled=False):
    """ "direct", or Winograd's algorithm with the best size of tiles, for weights of a shape."""
    least = weights.lanes()
    fits = shape[2:] == (3, 3) and stride == dilation == (1, 1) and groups == 1
    if not fits or shape[1] < least or _forced == "direct":
        return "direct"
    if _forced and _forced.startswith("winograd"):
        return _forced
    return cheapest(n, shape[1], shape[0], grid, pooled)


@functools.lru_cache(maxsize=512)
def cheapest(n, c, k, grid, pooled):
    """The algorithm of the least cost for c channels, k results and a grid of windows.

    It does not depend on the number of threads, so that results do not either.
    """
    work = 9 * n * grid[0] * grid[1] * c * k
    if work < FEWEST:
        return "direct"
    costs = {"direct": work + 9 * WEIGHT * c * k}
    for m, transform in TRANSFORM.items():
        if m == 7 and c <= FEW_CHANNELS:
            continue
        count = n * math.prod(winograd.tiles_of(m, grid, pooled))
        points = (m + 2) ** 2
        product, weight = PRODUCT, WEIGHT * points
        if winograd.makes(m, c, k):
            blocks = -(-count // winograd.MADE_TILES)
            product, weight = AT_ONCE if winograd.few(count) else (PRODUCT, MAKING * blocks)
        each = product * c * k + transform * (c + k)
        costs[f"winograd{m}"] = CAUTION[m] * (points * count * each + weight * c * k)
    if pooled:  # which Winograd's tiles are at once
        costs["direct"] += POOLING * n * grid[0] * grid[1] * k
    return min(costs, key=costs.get)


@functools.lru_cache(maxsize=512)
def for_gradient(n, c, k, grid):
    """The cheapest algorithm for the gradient of 3 x 3 weights, whose sums are long."""
    costs = {"direct": 9 * c * k * (n * grid[0] * grid[1] + SUM)}
    for m in (2, 4, 7):
        count = n * -(-grid[0] // m) * -(-grid[1] // m)
        each = PRODUCT * c * k + TRANSFORM[m] * (c + k)
        blocks = math.prod(winograd.cutting(m, count, c, k))
        costs[f"winograd{m}"] = (m + 2) ** 2 * (count * each + blocks * TAPS * c * k)
    return min(costs, key=costs.get)
