"""y = x Wᵀ + b: C kernels, by the threads that run all other layers.

Another library's threads, BLAS's, would spin for a while after each product and take the
processors from the layers that follow.
"""

import functools

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import columns, memory, native, weights
from flambeau.kernels.cpu.activation import relu_backward
from flambeau.kernels.cpu.arrays import contiguous, in_place, readable

FEW_ROWS = 8  # of linear.c and linear_backward.c
COMPACT_ROWS = 2  # of linear_compact.c: for more it takes longer than the weights as they are
PARALLEL_ABOVE = 200_000  # multiply-adds
SMALL = 200_000  # multiply-adds: one thread, one call, see linear_small.c
WORK = 32768  # of linear_small.c
LARGE = 2 << 20  # weights: they come from memory at each use, as in linear.c
BLOCK = 8  # vectors, of linear_compact.c
WORTH = 15 / 16  # of the size of large weights: what they are to be at most in fewer bits
WIDEST = 16  # numbers in a vector register, at most


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    return _linear(x, w, b, 0) if native.takes(x, w, b) else reference.linear(x, w, b)


def linear_relu(x, w, b):
    """y = max(x Wᵀ + b, 0)        as linear"""
    return _linear(x, w, b, 1) if native.takes(x, w, b) else reference.linear_relu(x, w, b)


def _linear(x, w, b, relu):
    o, i = w.shape
    y = memory.empty((*x.shape[:-1], o), x.dtype)
    n = y.size // o
    x, w, b = contiguous(x), contiguous(w), readable(b)
    if 0 < n <= FEW_ROWS:
        fewer_bits = w.size >= LARGE and weights.fixed(w) and _kept_compact(n, w)
        if fewer_bits:
            native.call("linear_compact", x, *fewer_bits, b, y, n, i, o)
        else:
            native.call("linear_few", x, w, b, y, n, i, o)
    elif n and n * i * o <= SMALL and (i + 1) * (o + WIDEST) <= WORK:
        native.call("linear_small", x, w, b, y, n, i, o, relu)
        return y
    elif n and weights.fixed(w):
        _times(x, weights.kept(w, "columns", _pack), b, y, (n, o, i, i, 1, 0, 0), True, False)
    elif n:
        _times(x, w, b, y, (n, o, i, i, 1, 1, i), False, False)
    if relu:
        native.call("relu", y, y, y.size)
    return y


def _kept_compact(n, w):
    """w (o, i), large and fixed, as linear_compact.c reads it for n rows; None if it does not."""
    if n > COMPACT_ROWS or w.dtype != np.float32 or w.shape[1] % (BLOCK * weights.lanes()):
        return None
    return weights.kept_later(w, "compact", compact)


def compact(w):
    """The blocks of w (o, i), the window of each, and where rows begin; () if that saves little.

    Of linear_compact.c: the numbers in fewer bits, nothing lost.
    """
    o, i = w.shape
    blocks = i // (BLOCK * weights.lanes())
    windows = np.empty((o, blocks), np.uint8)
    native.call("compact_windows", w, windows, windows.size)
    sizes = i - np.count_nonzero(windows, axis=1) * weights.lanes()
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if starts[-1] > WORTH * w.size:
        return ()
    to = memory.empty(int(starts[-1]), w.dtype)
    native.call("compact", w, windows, starts, to, o, blocks)
    return to, windows, starts


def _pack(w):
    """w (o, i) as the panels of columns of wᵀ that a product reads, an array of one dimension."""
    return weights.pack(1, False, w.reshape(*w.shape, 1, 1))


def linear_backward(x, dy, w, dw, db, want_dx):
    """dx = dy W, dw += dyᵀ x, db += Σ dy        dw, db may be None"""
    if not native.takes(x, dy, w, dw, db):
        return reference.linear_backward(x, dy, w, dw, db, want_dx)
    if _few(dy, w, dw, db):
        return _backward_small(x, None, dy, w, dw, db, want_dx)
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    n, (o, i) = dy.size // len(w), w.shape
    sizes = n, i, o, native.lib.threads()
    with in_place(dw, db) as (weights_sum, bias_sum):
        if 0 < n <= FEW_ROWS and dw is not None:
            native.call("linear_few_dw", x, dy, weights_sum, *sizes)
        elif n and dw is not None:
            product(dy.reshape(n, o).T, x.reshape(n, i), weights_sum, True)
        if n and db is not None:
            columns.totals(dy, bias_sum, True)
    if not want_dx:
        return None
    dx = memory.empty(x.shape, x.dtype)
    if 0 < n <= FEW_ROWS:
        native.call("linear_few_dx", dy, w, dx, *sizes)
    elif n:
        product(dy.reshape(n, o), w, dx.reshape(n, i), False)
    return dx


def linear_relu_backward(x, y, dy, w, dw, db, want_dx):
    """linear_backward of dy where y > 0, y what linear_relu gave"""
    if native.takes(x, y, dy, w, dw, db) and _few(dy, w, dw, db):
        return _backward_small(x, y, dy, w, dw, db, want_dx)
    return linear_backward(x, relu_backward(y, dy), w, dw, db, want_dx)


def _few(dy, w, dw, db):
    """True where linear_small.c is best, and can add to the gradients in place."""
    size, (o, i) = dy.size, w.shape
    if not 0 < size * i <= SMALL or max(size // o, o) * (i + WIDEST) + size > WORK:
        return False
    return native.writes(dw, db)


def _backward_small(x, y, dy, w, dw, db, want_dx):
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    y = readable(y)
    n, (o, i) = dy.size // len(w), w.shape
    dx = memory.empty(x.shape, x.dtype) if want_dx else None
    native.call("linear_backward_small", x, y, dy, w, dw, db, dx, n, i, o)
    return dx


def product(a, b, c, add, bias=None):
    """c = a b + bias, or c += a b (add): matrices, a and b of any strides, c and bias contiguous"""
    if min(*a.shape, *b.shape) > 0:  # to an empty sum only is anything added here
        (m, depth), n = a.shape, c.shape[1]
        (a, *a_steps), (b, *b_steps) = _place(a), _place(b)
        _times(a, b, bias, c, (m, n, depth, *a_steps, *b_steps), False, add)


def _times(a, b, bias, c, sizes, packed, add):
    """The same of what `call` takes: m, n, depth and the steps between rows and columns of a and b.

    packed: b comes from weights.pack
    """
    m, n, depth = sizes[:3]
    count = native.lib.threads() if m * n * depth > PARALLEL_ABOVE else 1
    work = memory.empty(_work(c.dtype, m, n, depth, count, packed), c.dtype)
    native.call("shared_product", a, b, bias, c, *sizes, packed, add, count, work)


@functools.lru_cache(maxsize=1024)
def _work(dtype, *sizes):
    """How many numbers of memory a product takes."""
    return native.call("shared_product_work", np.empty(1, dtype), *sizes)


def _place(a):
    """A matrix as an argument of `call`, and the steps between its rows and columns in numbers."""
    if a.flags.c_contiguous:
        return a, a.shape[1], 1
    if a.flags.f_contiguous:
        return a.T, 1, a.shape[0]
    row, column = a.strides
    return native.address(a), row // a.itemsize, column // a.itemsize
