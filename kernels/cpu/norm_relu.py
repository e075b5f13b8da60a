"""Batch normalisation, a sum and a ReLU as one step, in training: C kernels."""

import functools

import numpy as np

from flambeau.kernels.cpu import columns, layout, memory, native, weights
from flambeau.kernels.cpu.activation import relu, relu_backward
from flambeau.kernels.cpu.arrays import readable
from flambeau.kernels.cpu.elementwise import add
from flambeau.kernels.cpu.normalization import batch_norm, batch_norm_backward


def batch_norm_relu(x, other, w, b, running_mean, running_var, momentum, eps):
    """y = max(batch_norm(x) + other, 0) by the batch's statistics, and what backward takes

    other may be None. Where it is not, a bit says of each y whether it is above 0: backward then
    need not read y.
    """
    running = running_mean, running_var
    if not (_takes(x, other, w, b, *running) and native.writes(*running)):
        y, mean, inv_std = batch_norm(x, w, b, *running, momentum, eps, True)
        return relu(y if other is None else add([y, other])), (mean, inv_std, None)
    x = layout.arranged(x, True)
    other = None if other is None else layout.block(layout.arranged(other, True))
    n, c, y = x.size // x.shape[1], x.shape[1], layout.empty_like(x)
    mean, inv_std = memory.empty(c, x.dtype), memory.empty(c, x.dtype)
    work, parts = columns.workspace(n, c)
    marks = memory.empty(x.size // 8, np.uint8) if other is not None and _marks(x.dtype) else None
    learned = marks, mean, inv_std, *running, work, memory.empty(2 * c, x.dtype)
    arrays = layout.block(x), other, readable(w), readable(b), layout.block(y), *learned
    native.call("norm_relu", *arrays, n, c, parts, momentum, eps)
    return y, (mean, inv_std, marks)


def batch_norm_relu_backward(x, y, dy, w, b, dw, db, saved, want_dx, added):
    """(dx, dother) of batch_norm_relu, which gave y and saved; dw += …, db += …, or None"""
    mean, inv_std, marks = saved
    if not (_takes(x, y, dy, w, b, dw, db, mean, inv_std) and native.writes(dw, db)):
        dy = relu_backward(y, dy)
        dx = batch_norm_backward(x, dy, w, dw, db, mean, inv_std, True, want_dx)
        return dx, dy if added else None
    x, dy = layout.arranged(x, True), layout.arranged(dy, True)
    n, c = x.size // x.shape[1], x.shape[1]
    g = layout.empty_like(x) if added else None
    dx = layout.empty_like(x) if want_dx else None
    y = layout.arranged(y, True) if added and marks is None else None
    work, parts = columns.workspace(n, c)
    places = [layout.block(x), None if y is None else layout.block(y), marks, layout.block(dy)]
    places += readable(w), readable(b), dw, db
    places += [None if a is None else layout.block(a) for a in (g, dx)]
    places += mean, inv_std, work, memory.empty(4 * c, x.dtype)
    native.call("norm_relu_backward", *places, n, c, parts)
    return dx, g


@functools.cache
def _marks(dtype):
    """Whether the marks of a vector fill bytes."""
    return bool(native.call("norm_relu_marks", np.empty(1, dtype)))


def _takes(x, *arrays):
    """True for images whose channels lie innermost in memory and fill whole vectors."""
    fits = layout.prefers_channels_last(x) and x.shape[1] % weights.lanes() == 0
    return fits and native.takes(x, *arrays)
