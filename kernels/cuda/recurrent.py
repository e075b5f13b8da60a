"""Recurrent layers: a product for all steps at once, then a product and the gates step by step."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import accumulate, contiguous, copy, empty, zeros
from flambeau.kernels.cuda.linear import linear, linear_backward


def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse):
    """c' = f c + i g, h' = o tanh c'; -> y, c (t, n, h), gates (t, n, 4h): i, f, g, o"""
    h0, c0, sizes = contiguous(h0), contiguous(c0), h0.shape
    gates = linear(x, w_ih, b_ih)
    y, c = (empty(x, (len(x), *sizes), x.dtype) for _ in range(2))
    for t in _steps(x, reverse):
        ah = linear(h0, w_hh, b_hh)
        device.launch("recurrent", "lstm", h0.size, gates[t], ah, c0, c[t], y[t], *sizes)
        h0, c0 = y[t], c[t]
    return y, c, gates


def lstm_backward(
    x, h0, c0, w_ih, w_hh, y, c, gates, dy, dh, dc, dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx
):
    """dx or None, dh0, dc0; the gradients of the parameters (or None) are added to"""
    h0, c0, dy, sizes = contiguous(h0), contiguous(c0), contiguous(dy), h0.shape
    dh, dc = _carried(dh, h0), _carried(dc, c0)
    da = empty(x, gates.shape, x.dtype)
    for t in _steps(x, not reverse):
        arrays = gates[t], _before(c, c0, t, reverse), c[t], dy[t], dh, dc, da[t]
        device.launch("recurrent", "lstm_backward", h0.size, *arrays, *sizes)
        dh = _through(h0, da[t], w_hh)
    grads = dw_ih, dw_hh, db_ih, db_hh
    return _products(x, h0, w_ih, w_hh, y, da, da, grads, reverse, want_dx), dh, dc


def gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse):
    """h' = (1 - z) n + z h -> y (t, n, h), gates (t, n, 3h): r, z, n, hidden (t, n, h)"""
    h0, sizes = contiguous(h0), h0.shape
    gates = linear(x, w_ih, b_ih)
    y, hidden = (empty(x, (len(x), *sizes), x.dtype) for _ in range(2))
    for t in _steps(x, reverse):
        ah = linear(h0, w_hh, b_hh)
        device.launch("recurrent", "gru", h0.size, gates[t], ah, h0, hidden[t], y[t], *sizes)
        h0 = y[t]
    return y, gates, hidden


def gru_backward(
    x, h0, w_ih, w_hh, y, gates, hidden, dy, dh, dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx
):
    """dx or None, dh0; the gradients of the parameters (or None) are added to"""
    h0, dy, sizes = contiguous(h0), contiguous(dy), h0.shape
    dh = _carried(dh, h0)
    da, da_hidden = (empty(x, gates.shape, x.dtype) for _ in range(2))
    for t in _steps(x, not reverse):
        straight = empty(h0, sizes, x.dtype)
        arrays = gates[t], hidden[t], _before(y, h0, t, reverse), dy[t], dh, straight
        launched = *arrays, da[t], da_hidden[t]
        device.launch("recurrent", "gru_backward", h0.size, *launched, *sizes)
        dh = _through(h0, da_hidden[t], w_hh)
        accumulate(dh, straight)
    grads = dw_ih, dw_hh, db_ih, db_hh
    return _products(x, h0, w_ih, w_hh, y, da, da_hidden, grads, reverse, want_dx), dh


def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, relu, reverse):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or max(0, …) (relu) -> y (t, n, h)"""
    y = linear(x, w_ih, b_ih)
    for t in _steps(x, reverse):
        ah = linear(h0, w_hh, b_hh)
        device.launch("recurrent", "rnn", ah.size, y[t], ah, ah.size, relu)
        h0 = y[t]
    return y


def rnn_backward(x, h0, w_ih, w_hh, y, dy, dh, dw_ih, dw_hh, db_ih, db_hh, relu, reverse, want_dx):
    """dx or None, dh0; the gradients of the parameters (or None) are added to"""
    h0, dy = contiguous(h0), contiguous(dy)
    dh, da = _carried(dh, h0), empty(x, y.shape, x.dtype)
    for t in _steps(x, not reverse):
        arrays = y[t], dy[t], dh, da[t]
        device.launch("recurrent", "rnn_backward", h0.size, *arrays, h0.size, relu)
        dh = _through(h0, da[t], w_hh)
    grads = dw_ih, dw_hh, db_ih, db_hh
    return _products(x, h0, w_ih, w_hh, y, da, da, grads, reverse, want_dx), dh


def _steps(x, reverse):
    """The steps of x in the order in which they are taken."""
    return range(len(x) - 1, -1, -1) if reverse else range(len(x))


def _before(y, h0, t, reverse):
    """The state before step t: y (t, n, h) and the initial h0 (n, h)."""
    if t == (len(y) - 1 if reverse else 0):
        return h0
    return y[t + 1] if reverse else y[t - 1]


def _carried(dh, h0):
    """A new array for the gradient of a state, zero when it is None."""
    return zeros(h0, h0.shape, h0.dtype) if dh is None else copy(dh)


def _through(h0, da, w_hh):
    """The gradient of a state by way of W_hh"""
    return linear_backward(h0, da, w_hh, None, None, True)


def _products(x, h0, w_ih, w_hh, y, da, da_hidden, grads, reverse, want_dx):
    """dx, and the gradients of the parameters, by products over all steps"""
    dw_ih, dw_hh, db_ih, db_hh = grads
    # the states before the steps are h0 and all of y but the last
    first = da_hidden[-1 if reverse else 0]
    linear_backward(h0, first, w_hh, dw_hh, db_hh, False)
    if len(y) > 1:
        later, before = (da_hidden[:-1], y[1:]) if reverse else (da_hidden[1:], y[:-1])
        linear_backward(before, later, w_hh, dw_hh, db_hh, False)
    return linear_backward(x, da, w_ih, dw_ih, db_ih, want_dx)
