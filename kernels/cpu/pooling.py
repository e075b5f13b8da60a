"""Pooling over windows of the plane: C kernels."""

import functools

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, native
from flambeau.kernels.reference.pooling import windows


def max_pool2d(x, kernel, stride, padding, dilation, ceil, want_index):
    """y = the greatest of each window, and its index in the h*w plane (int32) or None"""
    if not native.takes(x):
        return reference.max_pool2d(x, kernel, stride, padding, dilation, ceil, want_index)
    last = layout.prefers_channels_last(x)
    x, shape = layout.arranged(x, last), _shape(x, kernel, stride, padding, dilation, ceil)
    y = layout.empty_arranged(shape, x.dtype, last)
    index = layout.empty_arranged(shape, np.int32, last) if want_index else None
    options = *kernel, *stride, *padding, *dilation
    _call("max_pool2d", last, x, y, index, *_sizes(x, y, last), *options)
    return y, index


def max_pool2d_backward(dy, index, size):
    """dx = Σ dy over the windows whose greatest each x was        size: (h, w) of x"""
    if not native.takes(dy):
        return reference.max_pool2d_backward(dy, index, size)
    last = layout.prefers_channels_last(index)
    dx = layout.empty_arranged((*dy.shape[:2], *size), dy.dtype, last)
    dy, index = layout.arranged(dy, last), layout.arranged(index, last)
    *planes, h, w, oh, ow = _sizes(dx, dy, last)
    _call("max_pool2d", last, dy, index, dx, *planes, h * w, oh * ow, backward=True)
    return dx


def avg_pool2d(x, kernel, stride, padding, ceil, count_padding):
    """y = the mean of each window, the zeros of the padding counted or not"""
    if not native.takes(x):
        return reference.avg_pool2d(x, kernel, stride, padding, ceil, count_padding)
    last = layout.prefers_channels_last(x)
    x, shape = layout.arranged(x, last), _shape(x, kernel, stride, padding, (1, 1), ceil)
    y = layout.empty_arranged(shape, x.dtype, last)
    options = *kernel, *stride, *padding, count_padding
    _call("avg_pool2d", last, x, y, *_sizes(x, y, last), *options)
    return y


def avg_pool2d_backward(x, dy, kernel, stride, padding, ceil, count_padding):
    """dx = Σ dy / size over the windows that hold each x"""
    if not native.takes(dy):
        options = kernel, stride, padding, ceil, count_padding
        return reference.avg_pool2d_backward(x, dy, *options)
    dy, dx, last = _gradients(x, dy)
    options = *kernel, *stride, *padding, count_padding
    if last:
        sides = zip(kernel, stride, padding, strict=True)
        return _spread(dx, dy, [(*side, count_padding) for side in sides])
    _call("avg_pool2d", last, dy, dx, *_sizes(dx, dy, last), *options, backward=True)
    return dx


def adaptive_avg_pool2d(x, size):
    """y = the means of size[0] x size[1] windows that cover the plane"""
    if not native.takes(x):
        return reference.adaptive_avg_pool2d(x, size)
    last = layout.prefers_channels_last(x)
    x, y = layout.arranged(x, last), layout.empty_arranged((*x.shape[:2], *size), x.dtype, last)
    _call("adaptive_avg_pool2d", last, x, y, *_sizes(x, y, last))
    return y


def adaptive_avg_pool2d_backward(x, dy, size):
    """dx = Σ dy / size over the windows that hold each x"""
    if not native.takes(dy):
        return reference.adaptive_avg_pool2d_backward(x, dy, size)
    dy, dx, last = _gradients(x, dy)
    if last:
        return _spread(dx, dy, [(), ()])
    _call("adaptive_avg_pool2d", last, dy, dx, *_sizes(dx, dy, last), backward=True)
    return dx


def _spread(dx, dy, options):
    """The mean's gradient for channels-last images; for each axis the options of its windows."""
    sides = zip(dx.shape[2:], dy.shape[2:], options, strict=True)
    (rows, down), (columns, across) = (_windows(*side[:2], *side[2]) for side in sides)
    shares = (share.astype(dy.dtype) for share in (down, across))
    sizes = *dx.shape, *dy.shape[2:]
    _call("mean_windows", False, dy, dx, rows, columns, *shares, *sizes, backward=True)
    return dx


@functools.lru_cache(maxsize=256)
def _windows(size, count, *options):
    """For each position along an axis the windows that hold it, and each window's share.

    options: window, stride, padding, count_padding; none for windows that cover the axis.
    """
    at, window = np.arange(size), np.arange(count)
    if options:
        length, stride, padding, count_padding = options
        at += padding
        held = np.maximum(0, (at - length) // stride + 1), np.minimum(count, at // stride + 1)
        start = window * stride - padding
        end = np.minimum(start + length, size + padding)
        counted = end - start if count_padding else np.minimum(end, size) - np.maximum(start, 0)
    else:
        held = at * count // size, -(-(at + 1) * count // size)
        counted = -(-(window + 1) * size // count) - window * size // count
    return np.stack(held, 1), 1 / counted


def _shape(x, *options):
    """The shape of the output; the options are pairs but the last, ceil."""
    *pairs, ceil = options
    counts = [windows(x.shape[2 + i], *(pair[i] for pair in pairs), ceil) for i in (0, 1)]
    return *x.shape[:2], *counts


def _gradients(x, dy):
    """dy and an array for dx in the memory order of x, and whether that is channels-last."""
    last = layout.prefers_channels_last(x)
    return layout.arranged(dy, last), layout.empty_arranged(x.shape, dy.dtype, last), last


def _sizes(x, y, last):
    n, c, h, w = x.shape
    return *((n, c) if last else (n * c,)), h, w, *y.shape[2:]


def _call(name, last, *args, backward=False):
    """The kernel for planes or for channels-last images, of dense arrays."""
    name += "_channels" * last + "_backward" * backward
    native.call(name, *(layout.block(a) if isinstance(a, np.ndarray) else a for a in args))
