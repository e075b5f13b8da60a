"""Volumes as images: each frame with all that a filter's depth sees of it as its channels."""

import numpy as np


def spans(count, depth, taps, stride, padding, dilation):
    """For each tap: the images that see a frame by it, and these frames, as slices."""
    for t in range(taps):
        first = t * dilation - padding
        start = max(0, -(first // stride))
        stop = max(start, min(count, (depth - 1 - first) // stride + 1))
        seen = slice(first + start * stride, first + stop * stride, stride)
        yield t, slice(start, stop), seen if stop > start else slice(0, 0)


def frames(x, count, taps, stride, padding, dilation):
    """y[(n, i), (c, t)] = x[n, c, i stride + t dilation - padding], or 0 where there is no frame

    x (n, c, d, h, w) -> y (n count, c taps, h, w)
    """
    n, c, d, h, w = x.shape
    y = np.zeros((n, count, c, taps, h, w), x.dtype)
    for t, images, seen in spans(count, d, taps, stride, padding, dilation):
        y[:, images, :, t] = x[:, :, seen].swapaxes(1, 2)
    return y.reshape(n * count, c * taps, h, w)


def frames_sum(y, b, n, depth, taps, stride, padding, dilation):
    """x[n, c, i stride + t dilation - padding] += y[(n, i), (c, t)], begun with b[c]

    y (n count, c taps, h, w), b (c,) or None -> x (n, c, depth, h, w): the transpose of frames
    """
    c, (h, w) = y.shape[1] // taps, y.shape[2:]
    count = len(y) // max(1, n)
    y = y.reshape(n, count, c, taps, h, w)
    x = np.zeros((n, c, depth, h, w), y.dtype)
    if b is not None:
        x += b[:, None, None, None]
    for t, images, seen in spans(count, depth, taps, stride, padding, dilation):
        x[:, :, seen] += y[:, images, :, t].swapaxes(1, 2)
    return x
