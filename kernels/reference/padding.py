"""Zeros around a plane, or a part of it."""

import numpy as np


def pad2d(x, padding):
    """y = x with padding (left, right, top, bottom) zeros around it; negative ones crop"""
    left, right, top, bottom = padding
    *outer, h, w = x.shape
    y = np.zeros((*outer, h + top + bottom, w + left + right), x.dtype)
    rows, rows_out = _kept(h, top, bottom)
    columns, columns_out = _kept(w, left, right)
    y[..., rows_out, columns_out] = x[..., rows, columns]
    return y


def pad2d_backward(dy, padding):
    """dx = dy without the padding, zeros where it was cropped"""
    return pad2d(dy, [-p for p in padding])


def _kept(size, before, after):
    """What is kept of an axis: where it was and where it comes."""
    start, length = max(0, -before), size + min(0, before) + min(0, after)
    return slice(start, start + length), slice(max(0, before), max(0, before) + length)
