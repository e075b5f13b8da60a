"""Batch normalisation, of one or two that are added, and a ReLU as one step, in training."""

import functools

import numpy as np

from flambeau.kernels.cpu import columns, layout, memory, native
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
    if not (columns.takes(x, other, w, b, *running) and native.writes(*running)):
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
    if not (columns.takes(x, y, dy, w, b, dw, db, mean, inv_std) and native.writes(dw, db)):
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


def batch_norm_pair_relu(x, other, norm, beside):
    """y = max(batch_norm(x) + batch_norm(other), 0), and what backward takes

    norm, beside: w, b, running_mean, running_var, momentum and eps for x, and for other
    """
    arrays = *norm[:4], *beside[:4]
    if not (columns.takes(x, other, *arrays) and native.writes(*norm[2:4], *beside[2:4])):
        y, *saved = batch_norm(x, *norm, True)
        z, *more = batch_norm(other, *beside, True)
        return relu(add([y, z])), (*saved, *more, None)
    x, other = layout.arranged(x, True), layout.arranged(other, True)
    n, c, y = x.size // x.shape[1], x.shape[1], layout.empty_like(x)
    marks = memory.empty(x.size // 8, np.uint8) if _marks(x.dtype) else None
    saved = [memory.empty(c, x.dtype) for _ in range(4)]
    work, parts = columns.workspace(n, c)
    places = [layout.block(a) for a in (x, other, y)]
    for (w, b, *running, _, _), learned in (norm, saved[:2]), (beside, saved[2:]):
        places += readable(w), readable(b), *learned, *running
    options = n, c, parts, *norm[4:], *beside[4:]
    places.insert(3, marks)
    native.call("norm_pair_relu", *places, work, memory.empty(4 * c, x.dtype), *options)
    return y, (*saved, marks)


def batch_norm_pair_relu_backward(x, other, y, dy, norm, beside, saved):
    """(dx, dother) of batch_norm_pair_relu, which gave y and saved

    norm, beside: w, dw, db, which are added to or None, and whether the gradient is wanted
    """
    *statistics, marks = saved
    arrays = x, other, y, dy, *norm[:3], *beside[:3], *statistics
    if not (columns.takes(*arrays) and native.writes(*norm[1:3], *beside[1:3])):
        dy = relu_backward(y, dy)
        pairs = (x, norm, statistics[:2]), (other, beside, statistics[2:])
        return tuple(
            batch_norm_backward(a, dy, *learned, *at, True, want)
            for a, (*learned, want), at in pairs
        )
    x, other, dy = (layout.arranged(a, True) for a in (x, other, dy))
    y = layout.block(layout.arranged(y, True)) if marks is None else None
    n, c = x.size // x.shape[1], x.shape[1]
    work, parts = columns.workspace(n, c, 3)
    places, found = [layout.block(x), layout.block(other), y, marks, layout.block(dy)], []
    for (w, dw, db, want), at in (norm, statistics[:2]), (beside, statistics[2:]):
        dx = layout.empty_like(x) if want else None
        places += readable(w), dw, db, dx if dx is None else layout.block(dx), *at
        found.append(dx)
    places += work, memory.empty(5 * c, x.dtype)
    native.call("norm_pair_relu_backward", *places, n, c, parts)
    return tuple(found)


@functools.cache
def _marks(dtype):
    """Whether the marks of a vector fill bytes."""
    return bool(native.call("norm_relu_marks", np.empty(1, dtype)))
