"""Volumes as images: each frame with all that a filter's depth sees of it as its channels."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


def frames(x, count, taps, stride, padding, dilation):
    """y[(n, i), (c, t)] = x[n, c, i stride + t dilation - padding], or 0 where there is no frame"""
    x = contiguous(x)
    n, c, d, h, w = x.shape
    y = empty(x, (n * count, c * taps, h, w), x.dtype)
    sizes = y.size, c, d, h * w, count, taps, stride, padding, dilation
    device.launch("frames", "frames", y.size, x, y, *sizes)
    return y


def frames_sum(y, b, n, depth, taps, stride, padding, dilation):
    """x[n, c, i stride + t dilation - padding] += y[(n, i), (c, t)], begun with b[c]"""
    y = contiguous(y)
    c, (h, w) = y.shape[1] // taps, y.shape[2:]
    x = empty(y, (n, c, depth, h, w), y.dtype)
    b = None if b is None else contiguous(b)
    sizes = x.size, c, depth, h * w, y.shape[0] // max(1, n), taps, stride, padding, dilation
    device.launch("frames", "frames_sum", x.size, y, b, x, *sizes)
    return x
