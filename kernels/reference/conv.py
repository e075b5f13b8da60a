"""Convolution: sums of weights times the window of the image that each result looks at."""

import numpy as np

from flambeau.kernels.reference.padding import pad2d
from flambeau.kernels.reference.pooling import max_pool2d


def windows(x, kernel, stride, padding, dilation, grid):
    """Views (n, c, h', w', p, q) of the zero-padded x: grid windows of the kernel's shape."""
    (p, q), (pad_h, pad_w) = kernel, padding
    x = np.pad(x, ((0, 0), (0, 0), (pad_h, pad_h), (pad_w, pad_w)))
    n, c, h, w = x.strides
    (step_h, step_w), (tap_h, tap_w) = stride, dilation
    strides = n, c, h * step_h, w * step_w, h * tap_h, w * tap_w
    shape = *x.shape[:2], *grid, p, q
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def output_size(size, kernel, stride, padding, dilation):
    """(h', w'): how many windows fit into the padded image; see conv2d_fused for padding."""
    axes = len(size)
    pads = [before + after for before, after in zip(padding[:axes], padding[-axes:], strict=True)]
    return tuple(
        (s + pad - d * (k - 1) - 1) // step + 1
        for s, k, step, pad, d in zip(size, kernel, stride, pads, dilation, strict=True)
    )


def transposed_size(size, kernel, stride, padding, output_padding, dilation):
    """(h', w'): the image into which windows from every element fit."""
    return tuple(
        (s - 1) * step - 2 * pad + d * (k - 1) + more + 1
        for s, k, step, pad, more, d in zip(
            size, kernel, stride, padding, output_padding, dilation, strict=True
        )
    )


def gather(x, w, stride, padding, dilation, groups, grid):
    """y[n, k, i, j] = Σ_{c, p, q} w[k, c, p, q] x[n, c, i stride + p dilation - padding, …]"""
    views = windows(x, w.shape[2:], stride, padding, dilation, grid)
    pieces = zip(np.split(views, groups, 1), np.split(w, groups), strict=True)
    sums = [np.tensordot(v, part, ((1, 4, 5), (1, 2, 3))) for v, part in pieces]
    return np.ascontiguousarray(np.concatenate(sums, 3).transpose(0, 3, 1, 2))


def spread(y, w, stride, padding, dilation, groups, size):
    """x[n, c, i stride + p dilation - padding, …] += w[k, c, p, q] y[n, k, i, j]"""
    n, _, h, w_ = y.shape
    (p, q), (pad_h, pad_w) = w.shape[2:], padding
    tall = max(size[0] + 2 * pad_h, (h - 1) * stride[0] + (p - 1) * dilation[0] + 1)
    wide = max(size[1] + 2 * pad_w, (w_ - 1) * stride[1] + (q - 1) * dilation[1] + 1)
    x = np.zeros((n, groups * w.shape[1], tall, wide), y.dtype)
    pieces = zip(np.split(y, groups, 1), np.split(w, groups), strict=True)
    sums = [np.tensordot(v, part, ((1,), (0,))) for v, part in pieces]
    taps = np.concatenate(sums, 3).transpose(0, 3, 1, 2, 4, 5)  # n, c, h, w, p, q
    for i in range(p):
        rows = slice(i * dilation[0], i * dilation[0] + (h - 1) * stride[0] + 1, stride[0])
        for j in range(q):
            first = j * dilation[1]
            columns = slice(first, first + (w_ - 1) * stride[1] + 1, stride[1])
            x[:, :, rows, columns] += taps[..., i, j]
    return np.ascontiguousarray(x[:, :, pad_h : pad_h + size[0], pad_w : pad_w + size[1]])


def add_weight_gradient(x, dy, dw, stride, padding, dilation, groups):
    """dw[k, c, p, q] += Σ_{n, i, j} dy[n, k, i, j] x[n, c, i stride + p dilation - padding, …]"""
    views = windows(x, dw.shape[2:], stride, padding, dilation, dy.shape[2:])
    pieces = zip(np.split(views, groups, 1), np.split(dy, groups, 1), strict=True)
    dw += np.concatenate([np.tensordot(d, v, ((0, 2, 3), (0, 2, 3))) for v, d in pieces])


def add_bias(y, b):
    """y += b, per channel; y itself."""
    if b is not None:
        y += b[:, None, None]
    return y


def conv2d(x, w, b, stride, padding, dilation, groups):
    """y = w * x + b        x (n, c, h, w), w (k, c/groups, p, q) -> y (n, k, h', w')"""
    grid = output_size(x.shape[2:], w.shape[2:], stride, padding, dilation)
    return add_bias(gather(x, w, stride, padding, dilation, groups, grid), b)


def conv2d_fused(x, w, b, other, low, high, stride, padding, dilation, groups):
    """y = clamp(conv2d(x, w, b) + other, low, high)        other, low, high may be None

    padding: (h, w), or four numbers (top, left, bottom, right)
    """
    if len(padding) == 4:
        top, left, bottom, right = padding
        x, padding = pad2d(x, (left, right, top, bottom)), (0, 0)
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    if other is not None:
        y += other
    if low is None and high is None:
        return y
    return np.clip(y, low, high)


def conv2d_joined(xs, ws, bs, bounds, options):
    """y = conv2d_fused(x, w, b, None, *bounds, *options) of each, one after another as channels

    xs, ws, bs, bounds, options: lists, an element for each convolution
    """
    parts = zip(xs, ws, bs, bounds, options, strict=True)
    return np.concatenate([conv2d_fused(x, w, b, None, *lh, *o) for x, w, b, lh, o in parts], 1)


def conv2d_chained(x, other, ws, bs, bounds, options):
    """y = conv2d_fused(…, w, b, None, *bounds, *options) of x, of that and so on

    ws, bs, bounds, options: lists, an element for each convolution. The last adds `other`, which
    may be None.
    """
    *before, last = zip(ws, bs, bounds, options, strict=True)
    for w, b, limits, each in before:
        x = conv2d_fused(x, w, b, None, *limits, *each)
    w, b, limits, each = last
    return conv2d_fused(x, w, b, other, *limits, *each)


def conv2d_pooled(x, w, b, bounds, options, ceil):
    """y = the greatest of each 2 x 2 of clamp(w * x + b, *bounds)

    options: stride, padding, dilation, groups. ceil: at the end there may be less than 2 x 2.
    """
    y = conv2d_fused(x, w, b, None, *bounds, *options)
    return max_pool2d(y, (2, 2), (2, 2), (0, 0), (1, 1), ceil, False)[0]


def conv2d_backward(x, dy, w, dw, db, other, stride, padding, dilation, groups, want_dx):
    """dx = the transposed convolution of dy + other, dw += Σ dy x, db += Σ dy

    dw, db, other may be None
    """
    if dw is not None:
        add_weight_gradient(x, dy, dw, stride, padding, dilation, groups)
    if db is not None:
        db += dy.sum((0, 2, 3))
    if not want_dx:
        return None
    dx = spread(dy, w, stride, padding, dilation, groups, x.shape[2:])
    return dx if other is None else dx + other


def conv_transpose2d(x, w, b, stride, padding, output_padding, dilation, groups):
    """y: each x adds x w at its window        x (n, c, *), w (c, k/groups, p, q) -> y (n, k, *)"""
    size = transposed_size(x.shape[2:], w.shape[2:], stride, padding, output_padding, dilation)
    return add_bias(spread(x, w, stride, padding, dilation, groups, size), b)


def conv_transpose2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """dx = the convolution of dy, dw += Σ x dy, db += Σ dy        dw, db may be None"""
    if dw is not None:
        add_weight_gradient(dy, x, dw, stride, padding, dilation, groups)
    if db is not None:
        db += dy.sum((0, 2, 3))
    if want_dx:
        return gather(dy, w, stride, padding, dilation, groups, x.shape[2:])
    return None
