"""A 1 x 1 convolution and the depthwise one behind it in one pass: C kernel."""

import functools

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import conv_algorithm, conv_last, memory, native, weights
from flambeau.kernels.cpu.conv import conv2d_fused, limits_of, taps_first
from flambeau.kernels.cpu.layout import channels_last
from flambeau.kernels.reference.conv import output_size

SCRATCH = 80_000  # numbers of what is computed between, which stay in the second-level cache
CHUNKS = 32, 48, 16  # channels at a time, the first that divides them
PIECES = 2  # of a thread at least


def conv2d_chained(x, w, b, bounds, taps, last_b, last_bounds, options):
    """y = clamp(taps * clamp(w * x + b, *bounds) + last_b, *last_bounds)

    w (k, c, 1, 1); taps (k, 1, p, q), channel by channel; options: stride, padding, dilation.
    """
    if not native.takes(x, w, b, taps, last_b):
        return reference.conv2d_chained(x, w, b, bounds, taps, last_b, last_bounds, options)
    if not _fits(x.dtype, taps.shape, *options) or conv_algorithm.forced():
        between = conv2d_fused(x, w, b, None, *bounds, (1, 1), (0, 0), (1, 1), 1)
        return conv2d_fused(between, taps, last_b, None, *last_bounds, *options, len(taps))
    x = channels_last(x)
    grid, sizes, work = plan(x.shape, taps.shape, *options, native.lib.threads())
    y = memory.empty((len(x), *grid, len(taps)), x.dtype)
    if y.size:
        packed = weights.kept(w, *weights.panels_of(1, False))
        turned = weights.kept(taps, "taps", taps_first)
        b, last_b = (None if a is None else np.ascontiguousarray(a) for a in (b, last_b))
        ranges = [_range(*limits) for limits in (bounds, last_bounds)]
        work = memory.empty(work, x.dtype)
        native.call("expanded_last", x, packed, b, turned, last_b, y, sizes, *ranges, work)
    return y.transpose(0, 3, 1, 2)


def _fits(dtype, shape, stride, padding, dilation):
    """True where the kernel is written for such windows: see depthwise_last.c."""
    narrow = shape[3] in (3, 5) and stride[1] in (1, 2) and dilation[1] == 1
    return dtype == np.float32 and narrow and shape[0] % weights.panel_width() == 0


@functools.lru_cache(maxsize=64)
def _range(low, high):
    limits = limits_of(low, high)
    return None if limits is None else np.array(limits, np.float32)


@functools.lru_cache(maxsize=512)
def plan(shape, taps, stride, padding, dilation, threads):
    """The grid of windows on x (n, h, w, depth), what expanded_last.c needs to know, and how many
    numbers of scratch memory it takes."""
    (n, h, w, depth), (k, _, *kernel) = shape, taps
    grid = output_size((h, w), kernel, stride, padding, dilation)
    chunk = next((size for size in CHUNKS if k % size == 0), weights.panel_width())
    if n * h * w * k * depth < conv_last.PARALLEL_ABOVE:
        threads = 1
    halo = (kernel[0] - 1) * dilation[0] + 1 - stride[0]
    lines = max(1, (SCRATCH // (w * chunk) - halo) // stride[0])
    most = n * grid[0] * (k // chunk) // (PIECES * threads)  # enough pieces for all threads
    lines = conv_last.shares(grid[0], max(1, min(lines, most, grid[0])))
    work = min(h, (lines - 1) * stride[0] + halo + stride[0]) * w * chunk
    strides = 0, 1, w * chunk, chunk
    sizes = [n, 1, k, h, w, 1, *kernel, *grid, *stride, *padding[:2], *dilation, *strides]
    sizes += [0, 0, lines, grid[1], 1, threads, work, k, depth, chunk]
    return grid, np.array(sizes), threads * work
