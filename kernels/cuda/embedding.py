"""Rows of a table, looked up by their numbers."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import array, contiguous, empty, numpy
from flambeau.kernels.reference.embedding import uses


def embedding(x, w):
    """y = w[x]        x (*s) int64, w (v, d) -> y (*s, d)"""
    d = w.shape[1]
    y = empty(w, (*x.shape, d), w.dtype)
    device.launch("embedding", "embedding", y.size, contiguous(w), contiguous(x), y, y.size, d)
    return y


def embedding_backward(x, dy, dw, padding, by_frequency):
    """dw[x] += dy, but row `padding` (or None); by_frequency: the mean over each row's uses"""
    lists = uses(numpy(x), padding)
    size, d = lists[2].size * dw.shape[1], dw.shape[1]
    if size:
        arrays = contiguous(dy), *(array(dw, a) for a in lists), dw
        sizes = size, d, int(by_frequency)
        device.launch("embedding", "embedding_backward", size, *arrays, *sizes)
