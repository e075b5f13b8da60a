"""y = x Wᵀ + b, by a matrix product in shared memory."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.activation import relu, relu_backward
from flambeau.kernels.cuda.arrays import contiguous, empty

_TILE = 64  # of linear.cu


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    x, w = contiguous(x), contiguous(w)
    o, i = w.shape
    y = empty(x, (*x.shape[:-1], o), x.dtype)
    _product(x, w, b, y, (y.size // max(o, 1), o, i), (i, 1), (1, i), add=False)
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
        _product(dy, x, None, dw, (o, i, rows), (1, o), (i, 1), add=True)
    if db is not None:
        device.launch_blocks("linear", "column_sums", o, dy, db, rows, o)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _product(dy, w, None, dx, (rows, i, o), (o, 1), (i, 1), add=False)
    return dx


def _product(a, b, bias, y, sizes, a_strides, b_strides, add):
    """y = a b + bias, or y += a b: a (m, depth) and b (depth, n) as strides over their memory."""
    m, n, depth = sizes
    tiles = -(-m // _TILE) * -(-n // _TILE)
    strides = *a_strides, *b_strides
    device.launch_blocks("linear", "product", tiles, a, b, bias, y, m, n, depth, *strides, int(add))
