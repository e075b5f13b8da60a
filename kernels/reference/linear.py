"""y = x Wᵀ + b"""

from flambeau.kernels.reference.activation import relu, relu_backward


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    y = x.reshape(-1, x.shape[-1]) @ w.T
    if b is not None:
        y += b
    return y.reshape(*x.shape[:-1], len(w))


def linear_relu(x, w, b):
    """y = max(x Wᵀ + b, 0)        as linear"""
    return relu(linear(x, w, b))


def linear_relu_backward(x, y, dy, w, dw, db, want_dx):
    """linear_backward of dy where y > 0, y what linear_relu gave"""
    return linear_backward(x, relu_backward(y, dy), w, dw, db, want_dx)


def linear_backward(x, dy, w, dw, db, want_dx):
    """dx = dy W, dw += dyᵀ x, db += Σ dy        dw, db may be None"""
    rows = dy.reshape(-1, dy.shape[-1])
    if dw is not None:
        dw += rows.T @ x.reshape(-1, x.shape[-1])
    if db is not None:
        db += rows.sum(0)
    return (rows @ w).reshape(x.shape) if want_dx else None
