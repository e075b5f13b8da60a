"""Batch normalisation, a ReLU and the greatest of each window as one step, in training."""

import numpy as np

from flambeau.kernels.cpu import columns, layout, memory, native
from flambeau.kernels.cpu.activation import relu, relu_backward
from flambeau.kernels.cpu.arrays import readable
from flambeau.kernels.cpu.normalization import batch_norm, batch_norm_backward
from flambeau.kernels.cpu.pooling import max_pool2d, max_pool2d_backward
from flambeau.kernels.reference.pooling import windows


def batch_norm_pool_relu(x, norm, pool):
    """y = the greatest of max(batch_norm(x), 0) over windows, and what backward takes

    norm: w, b, running_mean, running_var, momentum and eps; pool: what max_pool2d takes
    """
    w, b, *running, momentum, eps = norm
    fits = columns.takes(x, w, b, *running) and pool[3] == (1, 1)
    if not (fits and native.writes(*running)):
        z, *saved = batch_norm(x, *norm, True)
        y, index = max_pool2d(z, *pool, True)
        return relu(y), (*saved, index, None)
    x, sizes = layout.arranged(x, True), _sizes(x, *pool)
    n, c, oh, ow = sizes[0], sizes[1], *sizes[4:6]
    y, seen = (layout.empty_arranged((n, c, oh, ow), x.dtype, True) for _ in range(2))
    index = layout.empty_arranged(y.shape, np.int32, True)
    mean, inv_std = memory.empty(c, x.dtype), memory.empty(c, x.dtype)
    work, parts = columns.workspace(x.size // c, c)
    places = *(layout.block(a) for a in (x, y, seen, index)), readable(w), readable(b)
    options = sizes, work, memory.empty(2 * c, x.dtype), parts, momentum, eps
    native.call("max_pool2d_normalized", *places, mean, inv_std, *running, *options)
    return y, (mean, inv_std, index, seen)


def batch_norm_pool_relu_backward(x, y, dy, norm, pool, saved):
    """dx of batch_norm_pool_relu, which gave y and saved

    norm: w, dw, db, which are added to or None, and whether dx is wanted
    """
    (*learned, want), (mean, inv_std, index, seen) = norm, saved
    w, dw, db = learned
    if seen is None or not (native.takes(x, y, dy, *learned) and native.writes(dw, db)):
        dz = max_pool2d_backward(relu_backward(y, dy), index, x.shape[2:])
        return batch_norm_backward(x, dz, *learned, mean, inv_std, True, want)
    x, y, dy = (layout.arranged(a, True) for a in (x, y, dy))
    c, dx = x.shape[1], layout.empty_like(x) if want else None
    work, parts = columns.workspace(y.size // c, c)
    places = *(layout.block(a) for a in (x, y, seen, index, dy)), readable(w), dw, db
    places = *places, dx if dx is None else layout.block(dx), mean, inv_std
    passed_on, channels = memory.empty(y.size, y.dtype), memory.empty(3 * c, x.dtype)
    options = _sizes(x, *pool), work, channels, parts
    native.call("max_pool2d_normalized_backward", *places, passed_on, *options)
    return dx


def _sizes(x, kernel, stride, padding, dilation, ceil):
    """What the kernels are told: struct windows_of_plane."""
    sides = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    grid = [windows(*side, ceil) for side in sides]
    n, c, h, w = x.shape
    return np.array([n, c, h, w, *grid, *kernel, *stride, *padding])
