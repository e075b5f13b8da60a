"""y = x Wᵀ + b, and its gradients."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.activation import relu, relu_backward
from flambeau.kernels.cuda.arrays import contiguous, empty
from flambeau.kernels.cuda.product import join, product

_THREADS = 65536  # sums of fewer columns are taken in parts, a thread each


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    x, w = contiguous(x), contiguous(w)
    o, i = w.shape
    y = empty(x, (*x.shape[:-1], o), x.dtype)
    product(x, w, b, None, y, (y.size // max(o, 1), o, i), (i, 1), (1, i))
    return y


def linear_relu(x, w, b):
    """y = max(x Wᵀ + b, 0)        as linear"""
    return relu(linear(x, w, b))


def linear_relu_backward(x, y, dy, w, dw, db, want_dx):
    """linear_backward of dy where y > 0, y what linear_relu gave"""
    return linear_backward(x, relu_backward(y, dy), w, dw, db, want_dx)


def linear_backward(x, dy, w, dw, db, want_dx):
    """dx = dy W, dw += dyᵀ x, db += Σ dy        dw, db may be None"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    o, i = w.shape
    rows = dy.size // max(o, 1)
    if dw is not None:
        product(dy, x, None, dw, dw, (o, i, rows), (1, o), (i, 1))
    if db is not None:
        _column_sums(dy, db, rows, o)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    product(dy, w, None, None, dx, (rows, i, o), (o, 1), (i, 1))
    return dx


def _column_sums(x, y, rows, columns):
    """y += Σ x[:, j], in parts of the rows where there are few columns"""
    count = max(1, min(rows // 8, _THREADS // max(columns, 1)))
    parts = empty(x, (count, columns), x.dtype)
    arguments = x, parts, rows, columns, count
    device.launch("linear", "column_sums", count * columns, *arguments)
    join(parts, None, y, y, columns, 1, 0, columns)
