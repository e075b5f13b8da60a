"""Gradients of convolutions in channels-last memory, and transposed convolutions with them."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from flambeau.kernels.cpu import conv_algorithm, conv_last, memory, native, weights, winograd
from flambeau.kernels.cpu.conv_patches import phases
from flambeau.kernels.cpu.layout import arranged, assign, block, channels_last

PIXELS = 320  # of a strip: the depth of its products
FEW = 160  # of a strip where there are many, so that the first of them is soon there
PACKED = 60_000  # numbers of a packed factor that stay in the second cache
BATCH = 4  # panels packed at a time: what lies together in memory is read together
PARTS = 4  # of a thread
CHUNKS = 16  # of the strips, with sums of their own, where sums are small
LEAST = 4  # chunks that are worth it: each thread then has strips, and copies, of its own
SUMS = 1_000_000  # numbers of all chunks' sums at most


class Plan(NamedTuple):
    """What conv_weight.c needs to know: see there."""

    sizes: np.ndarray
    down: int
    across: int
    chunks: int
    images: int
    strip: int
    lefts: int
    each: int
    work: int


def takes(x, w, groups):
    """True when transposed() serves: x (n, k, h, w), w (k, c/groups, p, q)."""
    return x.dtype == np.float32 and (groups == 1 or w.shape[1] >= 16)


def transposed(x, w, b, other, size, stride, padding, dilation, groups):
    """The transposed convolution: an image of the given size, channels-last; + other at stride 1.

    For the rows and columns of the result that are read by the same taps it is a convolution at
    stride 1.
    """
    n, k, kernel = len(x), groups * w.shape[1], w.shape[2:]
    if stride == dilation == (1, 1) and max(padding) <= 2:
        turned = k, len(w), *kernel
        name = conv_algorithm.tiles(turned, n, size, stride, dilation, groups)
        if name != "direct":
            m, pads = int(name[-1]), (2 - padding[0], 2 - padding[1])
            packed = winograd.transformed(w, m, True)
            return winograd.convolve(x, packed, b, other, None, k, m, size, pads)
    other = None if other is None else channels_last(other)
    y = memory.empty((n, *size, k), x.dtype)
    down, across = (
        list(phases(size[i], kernel[i], stride[i], padding[i], dilation[i])) for i in (0, 1)
    )
    pairs = list(itertools.product(down, across))
    taps = phases_of(w, groups, [(rows[2], columns[2]) for rows, columns in pairs])
    for (rows, columns), (packed, (p, q)) in zip(pairs, taps, strict=True):
        (i, height, _, top, step_h), (j, width, _, left, step_w) = rows, columns
        to = y[:, i :: stride[0], j :: stride[1]]
        if packed is None or x.size == 0:
            assign(to.transpose(0, 3, 1, 2), None if b is None else b[:, None, None])
            continue
        # the taps in reverse: the last reads first
        start = -(top + (p - 1) * step_h), -(left + (q - 1) * step_w)
        options = (p, q), k, (height, width), (1, 1), start, (-step_h, -step_w), groups
        into(to, x, packed, b, other, options)
    return y.transpose(0, 3, 1, 2)


def phases_of(w, groups, slices):
    """The taps of each pair of slices packed in reverse, None for none; and how many they are."""
    counts = [
        tuple([len(range(n)[s]) for n, s in zip(w.shape[2:], two, strict=True)]) for two in slices
    ]
    some = [i for i, (p, q) in enumerate(counts) if p * q]
    if [counts[i] for i in some] == [w.shape[2:]]:
        packed = [weights.panels(w, groups, True)]
    else:
        parts = [tuple([(s.start, s.stop, s.step) for s in slices[i]]) for i in some]
        packed = weights.parts(w, groups, tuple(parts))
    packed = dict(zip(some, packed, strict=True))
    return [(packed.get(i), count) for i, count in enumerate(counts)]


def into(y, x, packed, b, other, options):
    """y = the convolution + other        y (n, h, w, k): all pixels of an image, or some"""
    x, strides = conv_last.steps(x)
    places = None if y.flags.c_contiguous else tuple(s // y.itemsize for s in y.strides[:3])
    options = *options, native.lib.threads()
    step = conv_last.prepared("conv_last", None, places, x.shape, strides, *options)
    step.into(y, x, packed, b, other)


def chunks_of(sums, pixels, direct):
    """How many chunks of the strips have sums of their own; 0: the gradient is the sums.

    A power of two, so that each thread takes as many. It does not depend on the threads.
    """
    chunks = 1 << min(CHUNKS, SUMS // sums, pixels // (4 * FEW)).bit_length() >> 1
    return chunks if chunks >= LEAST else 1 - direct


def parts_of(groups, left, tasks, wanted, threads):
    """Into how many parts the groups and the panels are cut; wanted: at least, of panels rather.

    Where that is possible each thread gets as many. left: numbers of a packed group.
    """
    down, most = conv_last.pieces(groups, max(1, PACKED // left)), max(1, tasks // BATCH)
    across = max(1, min(most, conv_last.pieces(wanted, down)))
    down = max(down, min(groups, conv_last.pieces(wanted, across)))
    for more in range(across, most + 1):
        if wanted > 1 and down * more % threads == 0:
            return down, more
    return down, across


def is_copied(shape, strides, kernel, grid, stride, padding, dilation):
    """True where windows read more than an image has, or not as the tiles do."""
    sides = zip(grid, stride, kernel, dilation, padding, strict=True)
    reads = [(g - 1) * s + (t - 1) * d - pad for g, s, t, d, pad in sides]
    beyond = max(padding) > 0 or reads[0] >= shape[2] or reads[1] >= shape[3]
    return beyond or strides[1] != 1 or shape[1] % (weights.panel_width() // 2) > 0


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


@functools.lru_cache(maxsize=512)
def plan(shape, strides, kernel, k, grid, stride, padding, dilation, threads, room):
    """The Plan for images of a shape and of strides in numbers; room: after them for a panel.

    None where they must be padded first: strips are copied only where few parts read them.
    """
    (n, c, h, w), (p, q), width = shape, kernel, weights.panel_width()
    copies = not room and is_copied(shape, strides, kernel, grid, stride, padding, dilation)
    simple = kernel == stride == (1, 1) and grid == (h, w)
    if not copies and simple and conv_last.one_line(shape, strides):
        n, h, w, grid = 1, 1, n * h * w, (1, n * h * w)
    together = dilation[1] == 1 and (copies or strides[3] == c)
    tasks = conv_last.pieces(q * c, width) * p if together else conv_last.pieces(c, width) * p * q
    sums, direct = tasks * k * width, (p, q) == (1, 1) and c % (width // 2) == 0 and c != width
    chunks = chunks_of(sums, n * grid[0] * grid[1], direct)
    if copies and chunks <= 1:
        return None
    near = stride[1] * (c if copies else strides[3]) <= width  # nothing is packed on the right
    deep = FEW if chunks > 1 and not near else PIXELS
    columns = conv_last.shares(grid[1], deep)
    lines = conv_last.shares(grid[0], max(1, deep // columns))
    strip = ((lines - 1) * stride[0] + (p - 1) * dilation[0] + 1) * c
    strip *= (columns - 1) * stride[1] + (q - 1) * dilation[1] + 1
    strip = strip + width if copies else 0
    one = copies or near or (lines, columns) != grid
    images = 1 if one else conv_last.shares(n, max(1, deep // (lines * columns)))
    if n * grid[0] * grid[1] * k * c * p * q < conv_last.PARALLEL_ABOVE:
        threads = 1
    groups, pixels = conv_last.pieces(k, weights.tile_rows()), images * lines * columns
    left, right = pixels * weights.tile_rows() + width, (pixels + 1) * width
    wanted = 1 if copies else conv_last.pieces(PARTS * threads, max(1, chunks))
    down, across = parts_of(groups, left, tasks, wanted, threads)
    panels = conv_last.shares(conv_last.pieces(tasks, across), BATCH)
    sizes = [n, 1, c, h, w, k, p, q, *grid, *stride, *padding, *dilation, *strides]
    sizes = np.array([*sizes, copies, 0, lines, columns, panels, threads, 0])
    lefts = conv_last.pieces(groups, down) * left
    each = memory.apart(strip + lefts + panels * right)
    work = chunks * sums + memory.APART + threads * each
    return Plan(sizes, down, across, chunks, images, strip, lefts, each, work)


def add_weight_gradient(x, dy, dw, stride, padding, dilation):
    """dw[k, c, p, q] += Σ dy[n, k, i, j] x[n, c, i stride + p dilation - padding, …]"""
    if x.size == 0 or dy.size == 0:
        return
    name = conv_algorithm.tiles(dw.shape, len(x), dy.shape[2:], stride, dilation, 1)
    if name != "direct" and winograd.takes_gradient(dw):
        if not conv_algorithm.forced():
            name = conv_algorithm.for_gradient(len(x), dw.shape[1], len(dw), dy.shape[2:])
        if name != "direct":
            winograd.add_weight_gradient(x, dy, dw, int(name[-1]), padding)
            return
    dy = channels_last(arranged(dy, True))
    grid, kernel, threads = dy.shape[1:3], dw.shape[2:], native.lib.threads()
    x, strides = conv_last.steps(x)
    rest = dilation, threads
    made = plan(x.shape, strides, kernel, len(dw), grid, stride, padding, *rest, False)
    if made is None:
        x, strides = conv_last.steps(padded(x, kernel, grid, stride, padding, dilation))
        made = plan(x.shape, strides, kernel, len(dw), grid, stride, (0, 0), *rest, True)
    *sizes, work = made
    work = memory.empty(work, x.dtype)
    native.call("conv_weight", native.address(x), dy, dw, *sizes, work)
