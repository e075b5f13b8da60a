"""Pooling over windows of the plane: maximum, average, adaptive average."""

import math

import numpy as np


def windows(size, kernel, stride, padding, dilation, ceil):
    """How many windows there are along an axis; with ceil the last may hang over, but starts
    inside the image or the padding before it (PyTorch's rule and Caffe's).

    >>> windows(7, 2, 2, 0, 1, False), windows(7, 2, 2, 0, 1, True)
    (3, 4)
    """
    room = size + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil else room // stride) + 1
    return count - (ceil and (count - 1) * stride >= size + padding)


def max_pool2d(x, kernel, stride, padding, dilation, ceil, want_index):
    """y = the greatest of each window, and its index in the h*w plane (int32) or None

    x (n, c, h, w) -> y, index (n, c, h', w'). The first of equals; NaN is the greatest. A window
    without a value in the image gives -inf and index -1.
    """
    n, c, h, w = x.shape
    shape = _counts(x, kernel, stride, padding, dilation, ceil)
    y = np.full((n, c, *shape), -np.inf, x.dtype)
    index = np.full(y.shape, -1, np.int32)
    at = np.arange(h * w, dtype=np.int32).reshape(h, w)
    for out, inside in _taps((h, w), shape, kernel, stride, padding, dilation):
        value, best = x[inside], y[out]
        better = (value > best) | (index[out] < 0) | (np.isnan(value) & ~np.isnan(best))
        y[out] = np.where(better, value, best)
        index[out] = np.where(better, at[inside[2:]], index[out])
    return y, index if want_index else None


def max_pool2d_backward(dy, index, size):
    """dx = Σ dy over the windows whose greatest each x was        size: (h, w) of x"""
    n, c = dy.shape[:2]
    dx = np.zeros((n * c, math.prod(size)), dy.dtype)
    index, dy = (v.reshape(n * c, v.shape[2] * v.shape[3]) for v in (index, dy))
    plane, window = np.nonzero(index >= 0)
    np.add.at(dx, (plane, index[plane, window]), dy[plane, window])
    return dx.reshape(n, c, *size)


def avg_pool2d(x, kernel, stride, padding, ceil, count_padding):
    """y = the mean of each window, the zeros of the padding counted or not"""
    n, c, h, w = x.shape
    shape = _counts(x, kernel, stride, padding, (1, 1), ceil)
    y = np.zeros((n, c, *shape), x.dtype)
    for out, inside in _taps((h, w), shape, kernel, stride, padding, (1, 1)):
        y[out] += x[inside]
    y /= _divisor((h, w), shape, kernel, stride, padding, count_padding).astype(x.dtype)
    return y


def avg_pool2d_backward(x, dy, kernel, stride, padding, ceil, count_padding):
    """dx = Σ dy / size over the windows that hold each x"""
    size, shape = x.shape[2:], dy.shape[2:]
    dy = dy / _divisor(size, shape, kernel, stride, padding, count_padding).astype(dy.dtype)
    dx = np.zeros(x.shape, dy.dtype)
    for out, inside in _taps(size, shape, kernel, stride, padding, (1, 1)):
        dx[inside] += dy[out]
    return dx


def adaptive_avg_pool2d(x, size):
    """y = the means of size[0] x size[1] windows that cover the plane

    Window i of m over h rows goes from ⌊i h/m⌋ up to ⌈(i + 1) h/m⌉.
    """
    y = np.empty((*x.shape[:2], *size), x.dtype)
    for i, rows in enumerate(_cover(x.shape[2], size[0])):
        for j, columns in enumerate(_cover(x.shape[3], size[1])):
            y[:, :, i, j] = x[:, :, rows, columns].mean((2, 3))
    return y


def adaptive_avg_pool2d_backward(x, dy, size):
    """dx = Σ dy / size over the windows that hold each x"""
    dx = np.zeros(x.shape, dy.dtype)
    for i, rows in enumerate(_cover(x.shape[2], size[0])):
        for j, columns in enumerate(_cover(x.shape[3], size[1])):
            area = (rows.stop - rows.start) * (columns.stop - columns.start)
            dx[:, :, rows, columns] += dy[:, :, i : i + 1, j : j + 1] / dy.dtype.type(area)
    return dx


def _counts(x, *options):
    """The numbers of windows down and across; the options are pairs but the last, ceil."""
    *pairs, ceil = options
    return tuple(windows(x.shape[2 + i], *(pair[i] for pair in pairs), ceil) for i in (0, 1))


def _taps(size, shape, kernel, stride, padding, dilation):
    """For each position in the window: where its outputs are in y and its values in x."""
    axes = []
    for i in (0, 1):
        starts = [t * dilation[i] - padding[i] for t in range(kernel[i])]
        axes.append([_reach(start, size[i], shape[i], stride[i]) for start in starts])
    for rows_out, rows in axes[0]:
        for columns_out, columns in axes[1]:
            yield (..., rows_out, columns_out), (slice(None), slice(None), rows, columns)


def _reach(start, size, count, stride):
    """The outputs o whose input start + o stride lies in the image, and those inputs."""
    first = max(0, -(start // stride))
    end = max(first, min(count, (size - 1 - start) // stride + 1))
    begin = start + first * stride
    return slice(first, end), slice(begin, begin + (end - first) * stride, stride)


def _divisor(size, shape, kernel, stride, padding, count_padding):
    """The number of values that each window's sum is divided by (h', w')."""
    sides = []
    for i in (0, 1):
        start = np.arange(shape[i]) * stride[i] - padding[i]
        end = np.minimum(start + kernel[i], size[i] + padding[i])
        inside = np.minimum(end, size[i]) - np.maximum(start, 0)
        sides.append(end - start if count_padding else inside)
    return np.outer(*sides)


def _cover(size, count):
    """`count` slices that cover an axis."""
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
