"""Zeros around a plane, or a part of it: C kernels."""

import math

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, native


def pad2d(x, padding):
    """y = x with padding (left, right, top, bottom) zeros around it; negative ones crop"""
    if not native.takes(x):
        return reference.pad2d(x, padding)
    last = layout.prefers_channels_last(x)
    x = layout.arranged(x, last)
    left, right, top, bottom = padding
    *outer, h, w = x.shape
    y = layout.empty_arranged((*outer, h + top + bottom, w + left + right), x.dtype, last)
    c = outer.pop() if last else 1  # the channels of a position are columns of the plane
    sizes = math.prod(outer), h, w * c, y.shape[-2], y.shape[-1] * c
    native.call("pad2d", layout.block(x), layout.block(y), *sizes, top, left * c)
    return y


def pad2d_backward(dy, padding):
    """dx = dy without the padding, zeros where it was cropped"""
    return pad2d(dy, [-p for p in padding])
