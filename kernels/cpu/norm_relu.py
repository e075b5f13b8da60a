"""Batch normalisation, a sum and a ReLU as one step, in training: C kernels."""

import numpy as np

from flambeau.kernels.cpu import columns, layout, native, weights
from flambeau.kernels.cpu.activation import relu, relu_backward
from flambeau.kernels.cpu.elementwise import add
from flambeau.kernels.cpu.normalization import batch_norm, batch_norm_backward, learn


def batch_norm_relu(x, other, w, b, running_mean, running_var, momentum, eps):
    """y = max(batch_norm(x) + other, 0) by the batch's statistics; other may be None"""
    if not _takes(x, other, w, b, running_mean, running_var):
        options = running_mean, running_var, momentum, eps, True
        y, mean, inv_std = batch_norm(x, w, b, *options)
        return relu(y if other is None else add([y, other])), mean, inv_std
    x = layout.arranged(x, True)
    other = None if other is None else layout.block(layout.arranged(other, True))
    n, c, y = x.size // x.shape[1], x.shape[1], layout.empty_like(x)
    centre, var = learn(x, running_mean, running_var, momentum, n, c)
    mean, inv_std = (v.astype(x.dtype) for v in (centre, 1 / np.sqrt(var + eps)))
    affine = _affine(w, b, inv_std)
    native.call("norm_relu", layout.block(x), other, layout.block(y), mean, *affine, n, c)
    return y, mean, inv_std


def batch_norm_relu_backward(x, y, dy, w, b, dw, db, mean, inv_std, want_dx, added):
    """(dx, dother) of batch_norm_relu, dw += …, db += …        dw, db may be None"""
    if not _takes(x, y, dy, w, b, dw, db, mean, inv_std):
        dy = relu_backward(y, dy)
        dx = batch_norm_backward(x, dy, w, dw, db, mean, inv_std, True, want_dx)
        return dx, dy if added else None
    x, dy = layout.arranged(x, True), layout.arranged(dy, True)
    n, c = x.size // x.shape[1], x.shape[1]
    scale, shift = _affine(w, b, inv_std)
    g = layout.empty_like(x) if added else None
    shown = (layout.block(layout.arranged(y, True)), layout.block(g)) if added else (None, None)
    work, parts = columns.workspace(n, c)
    arrays = layout.block(x), shown[0], layout.block(dy), shown[1], mean, scale, shift
    native.call("norm_relu_sums", *arrays, work, n, c, parts)
    total, product = work[0]
    inverse = inv_std.astype(np.float64)
    if db is not None:
        db += total
    if dw is not None:
        dw += product * inverse
    if not want_dx:
        return None, g
    dx = layout.empty_like(x)
    slopes = (v.astype(x.dtype) for v in (total / n, product * inverse**2 / n))
    places = layout.block(x), layout.block(dy if g is None else g), layout.block(dx), mean, scale
    if g is None:
        native.call("norm_relu_backward", *places, shift, *slopes, n, c)
    else:
        native.call("batch_norm_columns_backward", *places, *slopes, n, c)
    return dx, g


def _takes(x, *arrays):
    """True for images whose channels lie innermost in memory and fill whole vectors."""
    fits = layout.prefers_channels_last(x) and x.shape[1] % (weights.panel_width() // 2) == 0
    return fits and native.takes(x, *arrays)


def _affine(w, b, inv_std):
    """The factor of each channel and what is added to it."""
    scale = inv_std if w is None else inv_std * w
    return scale, np.zeros_like(scale) if b is None else np.ascontiguousarray(b)
