"""Zeros around a plane, or a part of it: C kernels."""

import math

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import native


def pad2d(x, padding):
    """y = x with padding (left, right, top, bottom) zeros around it; negative ones crop"""
    if not native.takes(x):
        return reference.pad2d(x, padding)
    x = reference.contiguous(x)
    left, right, top, bottom = padding
    *outer, h, w = x.shape
    y = np.empty((*outer, h + top + bottom, w + left + right), x.dtype)
    native.call("pad2d", x, y, math.prod(outer), h, w, *y.shape[-2:], top, left)
    return y


def pad2d_backward(dy, padding):
    """dx = dy without the padding, zeros where it was cropped"""
    return pad2d(dy, [-p for p in padding])
