"""y = x Wᵀ + b: NumPy's own matrix product (BLAS) serves here."""

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import memory, native

AT_ONCE = 1 << 21  # numbers of the weights' gradient that are computed before they are added


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    if not native.takes(x, w, b):
        return reference.linear(x, w, b)
    y = memory.empty((*x.shape[:-1], len(w)), x.dtype)
    _rows(x).dot(w.T, out=_rows(y))
    if b is not None:
        y += b
    return y


def linear_backward(x, dy, w, dw, db, want_dx):
    """dx = dy W, dw += dyᵀ x, db += Σ dy        dw, db may be None"""
    if not native.takes(x, dy, w, dw, db):
        return reference.linear_backward(x, dy, w, dw, db, want_dx)
    rows = _rows(dy)
    if dw is not None:
        _add_product(dw, rows.T, _rows(x))
    if db is not None:
        db += rows.sum(0)
    if not want_dx:
        return None
    dx = memory.empty(x.shape, x.dtype)
    rows.dot(w, out=_rows(dx))
    return dx


def _add_product(y, a, b):
    """y += a b, some rows at a time, so that the product is added while it is in the caches"""
    count = max(64, AT_ONCE // max(1, y.shape[1]))
    part = memory.empty((min(count, len(y)), y.shape[1]), y.dtype)
    for start in range(0, len(y), count):
        piece = y[start : start + count]
        piece += np.dot(a[start : start + count], b, out=part[: len(piece)])


def _rows(x):
    """x as a matrix of rows (all of its axes but the last in one)"""
    return x.reshape(-1, x.shape[-1])
