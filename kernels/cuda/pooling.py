"""Pooling over windows of the plane: maximum, average, adaptive average."""

import numpy as np

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


def max_pool2d(x, kernel, stride, padding, dilation, ceil, want_index):
    """y = the greatest of each window, and its index in the h*w plane (int32) or None"""
    x = contiguous(x)
    out = [
        _windows(x.shape[2 + i], dilation[i] * (kernel[i] - 1) + 1, stride[i], padding[i], ceil)
        for i in (0, 1)
    ]
    y = empty(x, (*x.shape[:2], *out), x.dtype)
    index = empty(x, y.shape, np.int32) if want_index else None
    options = *kernel, *stride, *padding, *dilation
    device.launch("pooling", "max_pool2d", y.size, x, y, index, *_sizes(x, y), *options)
    return y, index


def max_pool2d_backward(dy, index, size):
    """dx = Σ dy over the windows whose greatest each x was        size: (h, w) of x"""
    dx, dy = empty(dy, (*dy.shape[:2], *size), dy.dtype), contiguous(dy)
    sizes = _sizes(dx, dy)
    device.launch_blocks("pooling", "max_pool2d_backward", sizes[0], dy, index, dx, *sizes)
    return dx


def avg_pool2d(x, kernel, stride, padding, ceil, count_padding):
    """y = the mean of each window, with or without the padding"""
    x = contiguous(x)
    out = [_windows(x.shape[2 + i], kernel[i], stride[i], padding[i], ceil) for i in (0, 1)]
    y = empty(x, (*x.shape[:2], *out), x.dtype)
    options = *kernel, *stride, *padding, int(count_padding)
    device.launch("pooling", "avg_pool2d", y.size, x, y, *_sizes(x, y), *options)
    return y


def avg_pool2d_backward(x, dy, kernel, stride, padding, ceil, count_padding):
    """dx = Σ dy / size over the windows that hold each x"""
    dx, dy = empty(x, x.shape, x.dtype), contiguous(dy)
    options = *kernel, *stride, *padding, int(count_padding)
    device.launch("pooling", "avg_pool2d_backward", dx.size, dy, dx, *_sizes(dx, dy), *options)
    return dx


def adaptive_avg_pool2d(x, size):
    """y = the means of size[0] x size[1] windows that cover the plane"""
    x = contiguous(x)
    y = empty(x, (*x.shape[:2], *size), x.dtype)
    device.launch("pooling", "adaptive_avg_pool2d", y.size, x, y, *_sizes(x, y))
    return y


def adaptive_avg_pool2d_backward(x, dy, size):
    """dx = Σ dy / size over the windows that hold each x"""
    dx, dy = empty(x, x.shape, x.dtype), contiguous(dy)
    device.launch("pooling", "adaptive_avg_pool2d_backward", dx.size, dy, dx, *_sizes(dx, dy))
    return dx


def _windows(size, extent, stride, padding, ceil):
    """How many windows there are; with ceil the last may hang over, but starts inside."""
    room = size + 2 * padding - extent
    count = (-(-room // stride) if ceil else room // stride) + 1
    if ceil and (count - 1) * stride >= size + padding:
        count -= 1
    return count


def _sizes(x, y):
    n, c, h, w = x.shape
    return n * c, h, w, *y.shape[2:]
