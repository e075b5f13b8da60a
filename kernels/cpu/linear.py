"""y = x Wᵀ + b: C kernels, by the threads that run all other layers.

Another library's threads, BLAS's, would spin for a while after each product and take the
processors from the layers that follow.
"""

import functools

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import memory, native
from flambeau.kernels.reference import contiguous

FEW_ROWS = 8  # of linear.c
PARALLEL_ABOVE = 200_000  # multiply-adds


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    if not native.takes(x, w, b):
        return reference.linear(x, w, b)
    o, i = w.shape
    y = memory.empty((*x.shape[:-1], o), x.dtype)
    n, x, w = y.size // o, contiguous(x), contiguous(w)
    if 0 < n <= FEW_ROWS:
        b = None if b is None else contiguous(b)
        native.call("linear_few", x, w, b, y, n, i, o)
    elif n:
        if b is not None:
            y[...] = b
        multiply(x, w, y, (n, o, i), (i, 1, 1, i), b is not None)
    return y


def linear_backward(x, dy, w, dw, db, want_dx):
    """dx = dy W, dw += dyᵀ x, db += Σ dy        dw, db may be None"""
    if not native.takes(x, dy, w, dw, db):
        return reference.linear_backward(x, dy, w, dw, db, want_dx)
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    n, (o, i) = dy.size // len(w), w.shape
    if n and dw is not None:
        total = dw if dw.flags.carray else memory.copy(dw)
        multiply(dy, x, total, (o, i, n), (1, o, i, 1), True)
        if total is not dw:
            dw[...] = total
    if n and db is not None:
        total = db if db.flags.carray else memory.copy(db)
        native.call("add_rows", dy, total, n, o)
        if total is not db:
            db[...] = total
    if not want_dx:
        return None
    dx = memory.empty(x.shape, x.dtype)
    if n:
        multiply(dy, w, dx, (n, i, o), (o, 1, i, 1), False)
    return dx


def product(a, b, c, add):
    """c = a b, or c += a b (add): matrices, a and b of any strides, c contiguous"""
    strides = tuple(s // c.itemsize for s in (*a.strides, *b.strides))
    multiply(
        native.address(a), native.address(b), c, (a.shape[0], b.shape[1], a.shape[1]), strides, add
    )


def multiply(a, b, c, sizes, strides, add):
    """c (m, n) = or += (add) a (m, depth) b (depth, n)

    a, b: C-contiguous arrays, or addresses. sizes: m, n, depth. strides: of the rows and columns
    of a and of b, in numbers.
    """
    if 0 not in sizes:  # to an empty sum only is anything added here
        count, work = shares(c.dtype, *sizes, native.lib.threads())
        work = memory.empty(work, c.dtype)
        native.call("shared_product", a, b, c, *sizes, *strides, add, count, work)


@functools.lru_cache(maxsize=1024)
def shares(dtype, m, n, depth, threads):
    """How many threads a product is worth, and the numbers of scratch memory it takes."""
    count = threads if m * n * depth > PARALLEL_ABOVE else 1
    return count, native.call("shared_product_work", np.empty(1, dtype), m, n, depth, count)
