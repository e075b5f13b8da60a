"""A convolution and the maximum pooling of its results in one pass."""

import functools

from flambeau.kernels import reference
from flambeau.kernels.cpu import conv_algorithm, native, weights, winograd
from flambeau.kernels.cpu.conv import conv2d_fused, limits_of
from flambeau.kernels.cpu.layout import arranged
from flambeau.kernels.cpu.pooling import max_pool2d
from flambeau.kernels.reference.conv import output_size
from flambeau.kernels.reference.pooling import windows


def conv2d_pooled(x, w, b, bounds, options, ceil):
    """y = the greatest of each 2 x 2 of clamp(w * x + b, *bounds)

    options: stride, padding, dilation, groups. ceil: at the end there may be less than 2 x 2.
    """
    if not native.takes(x, w, b):
        return reference.conv2d_pooled(x, w, b, bounds, options, ceil)
    limits, threads = limits_of(*bounds), native.lib.threads()
    layout = x.dtype, x.shape, w.shape, limits
    found = _prepared(*layout, *options, ceil, threads, conv_algorithm.forced())
    if found is None:
        y = conv2d_fused(x, w, b, None, *bounds, *options)
        return max_pool2d(y, (2, 2), (2, 2), (0, 0), (1, 1), ceil, False)[0]
    step, pack = found
    return step(arranged(x, True), weights.kept(w, *pack), b, None)


@functools.lru_cache(maxsize=512)
def _prepared(dtype, shape, taps, limits, stride, padding, dilation, groups, ceil, threads, _):
    """The Step of Winograd's algorithm, and key and maker of its weights; or None.

    _: the algorithm that is forced.
    """
    (n, c, h, w), k = shape, taps[0]
    grid = output_size((h, w), taps[2:], stride, padding, dilation)
    name = conv_algorithm.chosen(dtype, n, taps, grid, stride, dilation, groups, True)
    if not name.startswith("winograd"):
        return None
    m, last = int(name[-1]), (h * w * c, 1, w * c, c)
    pooled = tuple(windows(size, 2, 2, 0, 1, ceil) for size in grid)
    options = last, k, grid, padding[:2], pooled, threads
    step = winograd.prepared(m, limits, None, shape, *options)
    return step, step.packing(False)
