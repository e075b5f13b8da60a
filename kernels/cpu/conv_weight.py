"""The gradient of a convolution's weights in channels-last memory: planning and conv_weight.c."""

import functools
import math
from typing import NamedTuple

import numpy as np

from flambeau.kernels.cpu import conv_algorithm, memory, native, weights, winograd
from flambeau.kernels.cpu.conv_last import EVEN, PARALLEL_ABOVE, one_line, pieces, shares, steps
from flambeau.kernels.cpu.layout import arranged, block, channels_last

PIXELS = 260  # of a strip: the depth of its products
FEW = 160  # of a strip where there are many, so that the first of them is soon there
PACKED = 60_000  # numbers of a packed factor that stay in the second cache
UNPACKED = 120_000  # the same of dy where it is read in place
BATCH = 2  # panels packed at a time: what lies together in memory is read together
PARTS = 2  # of a thread
CHUNKS = 16  # of the strips, with sums of their own, where sums are small
LEAST = 4  # chunks that are worth it: each thread then has strips, and copies, of its own
SUMS = 1_000_000  # numbers of all chunks' sums at most
FILLED = 0.9  # of the lanes at least, or the results of few channels fill them rather


class Plan(NamedTuple):
    """What conv_weight.c needs to know, and how many numbers of scratch memory."""

    sizes: np.ndarray
    work: int


class Sums(NamedTuple):
    """The sums of the products: numbers of a chunk's, and the chunks; turned: see conv_weight.c.

    No chunks: the gradient itself is the sums.
    """

    numbers: int
    chunks: int
    turned: bool


def chunks_of(sums, pixels):
    """How many chunks of the strips have sums of their own.

    A power of two, so that each thread takes as many. It does not depend on the threads.
    """
    chunks = 1 << min(CHUNKS, SUMS // sums, pixels // (4 * FEW)).bit_length() >> 1
    return chunks if chunks >= LEAST else 1


def filled(numbers):
    """Which part of the lanes of their vectors so many numbers fill."""
    lanes = weights.lanes()
    return numbers / (pieces(numbers, lanes) * lanes)


def sums_of(panels, k, c, kernel, together, pixels):
    """The Sums of so many pixels; panels: of what the taps read."""
    (p, q), width = kernel, weights.panel_width()
    whole, direct = c % (width // 2) == 0, kernel == (1, 1) and c != width
    if together and c < width // 2 and k % (width // 2) == 0 and filled(q * c) < FILLED:
        numbers = p * q * c * pieces(k, width) * width
        if chunks_of(numbers, pixels) > 1:
            return Sums(numbers, chunks_of(numbers, pixels), True)
    numbers = panels * k * width
    chunks = chunks_of(numbers, pixels)
    return Sums(numbers, chunks if chunks > 1 else int(not (whole and direct)), False)


def most_numbers():
    """Of dy in a part, which is packed or not as IN_PLACE of outer_product.h says of float32."""
    return UNPACKED if weights.tile_rows() + 2 >= memory.LINE // 4 else PACKED


def parts_of(groups, left, tasks, wanted, threads):
    """Into how many parts the groups and the panels are cut; wanted: at least, of panels rather.

    Where that is possible each thread gets as many. left: numbers of a packed group.
    """
    down, most = pieces(groups, max(1, most_numbers() // left)), max(1, tasks // BATCH)
    across = max(1, min(most, pieces(wanted, down)))
    down = max(down, min(groups, pieces(wanted, across)))
    for more in range(across, most + 1):
        if wanted > 1 and down * more % threads == 0:
            return down, more
    return down, across


def is_copied(shape, strides, kernel, grid, stride, padding, dilation):
    """True where windows read more than an image has, or not as the tiles do."""
    sides = zip(grid, stride, kernel, dilation, padding, strict=True)
    reads = [(g - 1) * s + (t - 1) * d - pad for g, s, t, d, pad in sides]
    beyond = max(padding) > 0 or reads[0] >= shape[2] or reads[1] >= shape[3]
    return beyond or strides[1] != 1 or shape[1] % weights.lanes() > 0


def padded(x, kernel, grid, stride, padding, dilation):
    """x as the taps read it, channels-last, and after it room for a panel"""
    n, c, h, w = x.shape
    sides = zip(grid, stride, kernel, dilation, strict=True)
    size = [(g - 1) * s + (t - 1) * d + 1 for g, s, t, d in sides]
    y = memory.empty(n * math.prod(size) * c + weights.panel_width(), x.dtype)
    y = y[: -weights.panel_width()].reshape(n, *size, c)
    places = n, h, w * c, size[0], size[1] * c, padding[0], padding[1] * c
    native.call("pad2d", block(arranged(x, True)), y, *places)
    return y.transpose(0, 3, 1, 2)


def strips_of(n, grid, deep, single):
    """Images, lines and columns of a strip of about `deep` pixels; single: of one image."""
    columns = shares(grid[1], deep)
    lines = shares(grid[0], max(1, deep // columns))
    if single or (lines, columns) != grid:
        return 1, lines, columns
    return shares(n, max(1, deep // (lines * columns))), lines, columns


@functools.lru_cache(maxsize=512)
def plan(shape, strides, kernel, k, grid, stride, padding, dilation, threads, room):
    """The Plan for images of a shape and of strides in numbers; room: after them for a panel.

    None where they must be padded first: strips are copied only where few parts read them.
    """
    (n, c, h, w), (p, q), width = shape, kernel, weights.panel_width()
    copies = not room and is_copied(shape, strides, kernel, grid, stride, padding, dilation)
    simple = kernel == stride == (1, 1) and grid == (h, w)
    if not copies and simple and one_line(shape, strides):
        n, h, w, grid = 1, 1, n * h * w, (1, n * h * w)
    if n * grid[0] * grid[1] * k * c * p * q < PARALLEL_ABOVE:
        threads = 1
    together = dilation[1] == 1 and (copies or strides[3] == c)
    tasks = pieces(q * c, width) * p if together else pieces(c, width) * p * q
    sums, chunks, turned = sums_of(tasks, k, c, kernel, together, n * grid[0] * grid[1])
    if copies and chunks <= 1:
        return None
    near = stride[1] * (c if copies else strides[3]) <= width  # nothing is packed on the right
    deep = FEW if chunks > 1 and not near else PIXELS
    if turned:
        deep = min(deep, max(FEW // 2, PACKED // k))
    images, lines, columns = strips_of(n, grid, deep, copies or near)
    rows = (lines - 1) * stride[0] + (p - 1) * dilation[0] + 1
    row = (columns - 1) * stride[1] + (q - 1) * dilation[1] + 1
    strip = copies * (rows * row * c + width)
    groups, pixels = pieces(k, weights.tile_rows()), images * lines * columns
    left, right = pixels * weights.tile_rows() + width, (pixels + 1) * width
    if turned:  # all results are packed
        down, across, lefts, panels = 1, 1, 0, pieces(k, width)
    else:
        wanted = 1 if copies else pieces(PARTS * threads, max(1, chunks))
        down, across = parts_of(groups, left, tasks, wanted, threads)
        lefts, panels = pieces(groups, down) * left, shares(pieces(tasks, across), BATCH)
    each = memory.apart(strip + lefts + panels * right)
    sizes = [n, 1, c, h, w, k, p, q, *grid, *stride, *padding, *dilation, *strides]
    sizes += [copies, 0, lines, columns, panels, threads, 0, *EVEN, k]
    sizes += [down, across, chunks, turned, images, strip, lefts, each]
    return Plan(np.array(sizes), chunks * sums + memory.APART + threads * each)


def add_weight_gradient(x, dy, dw, stride, padding, dilation):
    """dw[k, c, p, q] += Σ dy[n, k, i, j] x[n, c, i stride + p dilation - padding, …]

    x and dy not empty.
    """
    name = conv_algorithm.tiles(dw.shape, len(x), dy.shape[2:], stride, dilation, 1)
    if name != "direct" and winograd.takes_gradient(dw):
        if not conv_algorithm.forced():
            name = conv_algorithm.for_gradient(len(x), dw.shape[1], len(dw), dy.shape[2:])
        if name != "direct":
            winograd.add_weight_gradient(x, dy, dw, int(name[-1]), padding)
            return
    dy = channels_last(arranged(dy, True))
    grid, kernel, threads = dy.shape[1:3], dw.shape[2:], native.lib.threads()
    x, strides = steps(x)
    rest = dilation, threads
    made = plan(x.shape, strides, kernel, len(dw), grid, stride, padding, *rest, False)
    if made is None:
        x, strides = steps(padded(x, kernel, grid, stride, padding, dilation))
        made = plan(x.shape, strides, kernel, len(dw), grid, stride, (0, 0), *rest, True)
    work = memory.empty(made.work, x.dtype)
    native.call("conv_weight", native.address(x), dy, dw, made.sizes, work, True)
