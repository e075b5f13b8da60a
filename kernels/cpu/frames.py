"""Volumes as images: C kernels, in the order of memory that the volume or the images have."""

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, memory, native
from flambeau.kernels.cpu.arrays import contiguous, readable


def frames(x, count, taps, stride, padding, dilation):
    """y[(n, i), (c, t)] = x[n, c, i stride + t dilation - padding], or 0 where there is no frame"""
    if not native.takes(x):
        return reference.frames(x, count, taps, stride, padding, dilation)
    n, c, d, h, w = x.shape
    if taps == stride == 1 and padding == 0 and count == d:
        return x.swapaxes(1, 2).reshape(n * d, c, h, w)  # a view where memory allows
    turned = x.transpose(0, 2, 3, 4, 1)
    last = not x.flags.c_contiguous and turned.flags.c_contiguous and x.flags.aligned
    x = turned if last else contiguous(x)
    y = layout.empty_arranged((n * count, c * taps, h, w), x.dtype, last)
    sizes = n, c, d, h * w, count, taps, stride, padding, dilation
    native.call("frames_last" if last else "frames", x, layout.block(y), *sizes)
    return y


def frames_sum(y, b, n, depth, taps, stride, padding, dilation):
    """x[n, c, i stride + t dilation - padding] += y[(n, i), (c, t)], begun with b[c]"""
    if not native.takes(y, b):
        return reference.frames_sum(y, b, n, depth, taps, stride, padding, dilation)
    c, (h, w) = y.shape[1] // taps, y.shape[2:]
    last = layout.prefers_channels_last(y)
    y = layout.arranged(y, last)
    x = memory.empty((n, depth, h, w, c) if last else (n, c, depth, h, w), y.dtype)
    sizes = n, c, depth, h * w, len(y) // max(1, n), taps, stride, padding, dilation
    b = readable(b)
    native.call("frames_sum_last" if last else "frames_sum", layout.block(y), b, x, *sizes)
    return x.transpose(0, 4, 1, 2, 3) if last else x
