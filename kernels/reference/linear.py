"""y = x Wᵀ + b"""


def linear(x, w, b):
    """y = x Wᵀ + b        x (*s, i), w (o, i), b (o,) or None -> y (*s, o)"""
    y = x.reshape(-1, x.shape[-1]) @ w.T
    if b is not None:
        y += b
    return y.reshape(*x.shape[:-1], len(w))


def linear_backward(x, dy, w, dw, db, want_dx):
    """dx = dy W, dw += dyᵀ x, db += Σ dy        dw, db may be None"""
    rows = dy.reshape(-1, dy.shape[-1])
    if dw is not None:
        dw += rows.T @ x.reshape(-1, x.shape[-1])
    if db is not None:
        db += rows.sum(0)
    return (rows @ w).reshape(x.shape) if want_dx else None
