"""Recurrent layers: C kernels over all steps, and products for what no step waits for."""

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import columns, memory, native
from flambeau.kernels.cpu.arrays import contiguous, in_place, readable
from flambeau.kernels.cpu.linear import product
from flambeau.kernels.reference.recurrent import zeros_for

LSTM, GRU, RNN_TANH, RNN_RELU = range(4)  # of recurrent.c
PARALLEL_ABOVE = 200_000  # multiply-adds of a step, or of a product


def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse):
    """c' = f c + i g, h' = o tanh c'; -> y, c (t, n, h), gates (t, n, 4h): i, f, g, o"""
    if not native.takes(x, h0, c0, w_ih, w_hh, b_ih, b_hh):
        return reference.lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse)
    gates = _inputs(x, w_ih)
    y, c = memory.empty((2, *x.shape[:2], w_hh.shape[1]), x.dtype)
    _forward(LSTM, h0, c0, w_hh, _sum(b_ih, b_hh, w_hh), None, gates, None, y, c, reverse)
    return y, c, gates


def lstm_backward(
    x, h0, c0, w_ih, w_hh, y, c, gates, dy, dh, dc, dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx
):
    """dx or None, dh0, dc0; the gradients of the parameters (or None) are added to"""
    if not native.takes(x, h0, c0, w_ih, w_hh, dy, dh, dc):
        return reference.lstm_backward(
            *(x, h0, c0, w_ih, w_hh, y, c, gates, dy, dh, dc),
            *(dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx),
        )
    da, dh, dc = memory.empty(gates.shape, gates.dtype), _carried(dh, h0), _carried(dc, c0)
    _backward(LSTM, h0, c0, w_hh, y, c, gates, None, dy, dh, dc, da, None, reverse)
    grads = dw_ih, dw_hh, db_ih, db_hh
    return _products(x, h0, w_ih, y, da, da, grads, reverse, want_dx), dh, dc


def gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse):
    """h' = (1 - z) n + z h -> y (t, n, h), gates (t, n, 3h): r, z, n, hidden (t, n, h)"""
    if not native.takes(x, h0, w_ih, w_hh, b_ih, b_hh):
        return reference.gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse)
    gates = _inputs(x, w_ih)
    h = w_hh.shape[1]
    y, hidden = memory.empty((2, *x.shape[:2], h), x.dtype)
    b, b_hidden = _sum(b_ih, b_hh, w_hh), np.zeros(h, x.dtype)
    if b_hh is not None:
        b[2 * h :], b_hidden = b_ih[2 * h :], contiguous(b_hh[2 * h :])
    _forward(GRU, h0, None, w_hh, b, b_hidden, gates, hidden, y, None, reverse)
    return y, gates, hidden


def gru_backward(
    x, h0, w_ih, w_hh, y, gates, hidden, dy, dh, dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx
):
    """dx or None, dh0; the gradients of the parameters (or None) are added to"""
    if not native.takes(x, h0, w_ih, w_hh, dy, dh):
        return reference.gru_backward(
            *(x, h0, w_ih, w_hh, y, gates, hidden, dy, dh),
            *(dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx),
        )
    da, da_hidden = memory.empty((2, *gates.shape), x.dtype)
    dh = _carried(dh, h0)
    _backward(GRU, h0, None, w_hh, y, None, gates, hidden, dy, dh, None, da, da_hidden, reverse)
    grads = dw_ih, dw_hh, db_ih, db_hh
    return _products(x, h0, w_ih, y, da, da_hidden, grads, reverse, want_dx), dh


def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, relu, reverse):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or max(0, …) (relu) -> y (t, n, h)"""
    if not native.takes(x, h0, w_ih, w_hh, b_ih, b_hh):
        return reference.rnn(x, h0, w_ih, w_hh, b_ih, b_hh, relu, reverse)
    y = _inputs(x, w_ih)
    cell = RNN_RELU if relu else RNN_TANH
    _forward(cell, h0, None, w_hh, _sum(b_ih, b_hh, w_hh), None, y, None, y, None, reverse)
    return y


def rnn_backward(x, h0, w_ih, w_hh, y, dy, dh, dw_ih, dw_hh, db_ih, db_hh, relu, reverse, want_dx):
    """dx or None, dh0; the gradients of the parameters (or None) are added to"""
    if not native.takes(x, h0, w_ih, w_hh, dy, dh):
        return reference.rnn_backward(
            *(x, h0, w_ih, w_hh, y, dy, dh, dw_ih, dw_hh, db_ih, db_hh, relu, reverse, want_dx)
        )
    da, dh = memory.empty(y.shape, y.dtype), _carried(dh, h0)
    cell = RNN_RELU if relu else RNN_TANH
    _backward(cell, h0, None, w_hh, y, None, None, None, dy, dh, None, da, None, reverse)
    grads = dw_ih, dw_hh, db_ih, db_hh
    return _products(x, h0, w_ih, y, da, da, grads, reverse, want_dx), dh


def _forward(cell, h0, c0, w_hh, b, b_hidden, gates, hidden, y, c, reverse):
    """Fill gates (they hold W_ih x), y and what else the cell has."""
    h0, w_hh = contiguous(h0), contiguous(w_hh)
    c0 = readable(c0)
    arrays = h0, c0, w_hh, b, b_hidden, gates, hidden, y, c
    native.call("recurrent", *arrays, cell, *y.shape, reverse, *_work(y, w_hh, cell, 0))


def _backward(cell, h0, c0, w_hh, y, c, gates, hidden, dy, dh, dc, da, da_hidden, reverse):
    """Fill da, and da_hidden of a GRU; dh and dc become the gradients of the initial state."""
    h0, w_hh, dy = (contiguous(a) for a in (h0, w_hh, dy))
    c0 = readable(c0)
    arrays = h0, c0, w_hh, y, c, gates, hidden, dy, dh, dc, da, da_hidden
    native.call("recurrent_backward", *arrays, cell, *y.shape, reverse, *_work(y, w_hh, cell, 1))


def _work(y, w_hh, cell, backward):
    """The number of threads, and the memory in which the kernel packs its factors."""
    count = _threads(y.shape[1] * w_hh.size)
    size = native.call("recurrent_work", y, *y.shape[1:], cell, count, backward)
    return count, memory.empty(size, y.dtype)


def _threads(work):
    """How many threads so many multiply-adds, of a step or a product, are worth."""
    return native.lib.threads() if work > PARALLEL_ABOVE else 1


def _inputs(x, w_ih):
    """W_ih x for all steps"""
    y = memory.empty((*x.shape[:2], len(w_ih)), x.dtype)
    product(_rows(x), w_ih.T, _rows(y), False)
    return y


def _products(x, h0, w_ih, y, da, da_hidden, grads, reverse, want_dx):
    """dx, and the gradients of the parameters, by products over all steps"""
    dw_ih, dw_hh, db_ih, db_hh = grads
    if dw_hh is not None:
        # the states before the steps are h0 and all of y but the last
        later, before = (da_hidden[:-1], y[1:]) if reverse else (da_hidden[1:], y[:-1])
        with in_place(dw_hh) as (sums,):
            product(da_hidden[-1 if reverse else 0].T, contiguous(h0), sums, True)
            product(_rows(later).T, _rows(before), sums, True)
        with in_place(dw_ih) as (sums,):  # after the other went back: they may be one array
            product(_rows(da).T, _rows(x), sums, True)
    if db_ih is not None:
        sums = _totals(da)
        db_ih += sums
        db_hh += sums if da_hidden is da else _totals(da_hidden)
    if not want_dx:
        return None
    dx = memory.empty(x.shape, x.dtype)
    product(_rows(da), w_ih, _rows(dx), False)
    return dx


def _totals(da):
    """Σ da over steps and batch"""
    return columns.totals(da, np.empty(da.shape[-1], da.dtype), False)


def _rows(x):
    """x as a matrix of rows"""
    return contiguous(x).reshape(-1, x.shape[-1])


def _sum(b_ih, b_hh, w):
    """Both biases in one new array; zeros without."""
    return np.zeros(len(w), w.dtype) if b_ih is None else b_ih + b_hh


def _carried(dh, h0):
    """A new array for the gradient of a state, which the kernel changes step by step."""
    return np.array(zeros_for(dh, h0), order="C")
