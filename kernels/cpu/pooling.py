"""Pooling over windows of the plane: C kernels."""

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import native
from flambeau.kernels.reference.pooling import windows


def max_pool2d(x, kernel, stride, padding, dilation, ceil):
    """y = the greatest of each window, and its index in the h*w plane (int32)"""
    if not native.takes(x):
        return reference.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    x = reference.contiguous(x)
    y = _output(x, kernel, stride, padding, dilation, ceil)
    index = np.empty(y.shape, np.int32)
    options = *kernel, *stride, *padding, *dilation
    native.call("max_pool2d", x, y, index, *_sizes(x, y), *options)
    return y, index


def max_pool2d_backward(x, dy, index):
    """dx = Σ dy over the windows whose greatest each x was"""
    if not native.takes(dy):
        return reference.max_pool2d_backward(x, dy, index)
    dy, dx = reference.contiguous(dy), np.empty(x.shape, dy.dtype)
    planes, h, w, oh, ow = _sizes(dx, dy)
    native.call("max_pool2d_backward", dy, index, dx, planes, h * w, oh * ow)
    return dx


def avg_pool2d(x, kernel, stride, padding, ceil, count_padding):
    """y = the mean of each window, the zeros of the padding counted or not"""
    if not native.takes(x):
        return reference.avg_pool2d(x, kernel, stride, padding, ceil, count_padding)
    x = reference.contiguous(x)
    y = _output(x, kernel, stride, padding, (1, 1), ceil)
    options = *kernel, *stride, *padding, count_padding
    native.call("avg_pool2d", x, y, *_sizes(x, y), *options)
    return y


def avg_pool2d_backward(x, dy, kernel, stride, padding, ceil, count_padding):
    """dx = Σ dy / size over the windows that hold each x"""
    if not native.takes(dy):
        options = kernel, stride, padding, ceil, count_padding
        return reference.avg_pool2d_backward(x, dy, *options)
    dy, dx = reference.contiguous(dy), np.empty(x.shape, dy.dtype)
    options = *kernel, *stride, *padding, count_padding
    native.call("avg_pool2d_backward", dy, dx, *_sizes(dx, dy), *options)
    return dx


def adaptive_avg_pool2d(x, size):
    """y = the means of size[0] x size[1] windows that cover the plane"""
    if not native.takes(x):
        return reference.adaptive_avg_pool2d(x, size)
    x, y = reference.contiguous(x), np.empty((*x.shape[:2], *size), x.dtype)
    native.call("adaptive_avg_pool2d", x, y, *_sizes(x, y))
    return y


def adaptive_avg_pool2d_backward(x, dy, size):
    """dx = Σ dy / size over the windows that hold each x"""
    if not native.takes(dy):
        return reference.adaptive_avg_pool2d_backward(x, dy, size)
    dy, dx = reference.contiguous(dy), np.empty(x.shape, dy.dtype)
    native.call("adaptive_avg_pool2d_backward", dy, dx, *_sizes(dx, dy))
    return dx


def _output(x, *options):
    """An array for the output; the options are pairs but the last, ceil."""
    *pairs, ceil = options
    counts = [windows(x.shape[2 + i], *(pair[i] for pair in pairs), ceil) for i in (0, 1)]
    return np.empty((*x.shape[:2], *counts), x.dtype)


def _sizes(x, y):
    n, c, h, w = x.shape
    return n * c, h, w, *y.shape[2:]
