"""Zeros around a plane, or a part of it."""

import math

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


def pad2d(x, padding):
    """y = x with padding (left, right, top, bottom) zeros around; negative ones crop"""
    x = contiguous(x)
    left, right, top, bottom = padding
    *outer, h, w = x.shape
    y = empty(x, (*outer, h + top + bottom, w + left + right), x.dtype)
    sizes = math.prod(outer), h, w, *y.shape[-2:]
    device.launch("padding", "pad2d", y.size, x, y, *sizes, top, left)
    return y


def pad2d_backward(dy, padding):
    """dx = dy without the padding, zeros where it was cropped"""
    return pad2d(dy, [-p for p in padding])
