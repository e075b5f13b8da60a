"""Rows of a table, looked up by their numbers: C kernels."""

from flambeau.kernels import reference
from flambeau.kernels.cpu import memory, native
from flambeau.kernels.cpu.arrays import contiguous
from flambeau.kernels.reference.embedding import uses


def embedding(x, w):
    """y = w[x]        x (*s) int64, w (v, d) -> y (*s, d)"""
    if not native.takes(w):
        return reference.embedding(x, w)
    y = memory.empty((*x.shape, w.shape[1]), w.dtype)
    native.call("embedding", contiguous(w), contiguous(x), y, x.size, w.shape[1])
    return y


def embedding_backward(x, dy, dw, padding, by_frequency):
    """dw[x] += dy, but row `padding` (or None); by_frequency: the mean over each row's uses"""
    if not native.takes(dw, dy) or not dw.flags.carray:
        reference.embedding_backward(x, dy, dw, padding, by_frequency)
        return
    places, begins, rows = uses(x, padding)
    sizes = len(rows), len(places), dw.shape[1], int(by_frequency)
    native.call("embedding_backward", contiguous(dy), places, begins, rows, dw, *sizes)
