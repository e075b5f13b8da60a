"""Recurrent layers: one layer in one direction, a loop over time.

x (t, n, i), states h0, c0 (n, h), w_ih (g h, i), w_hh (g h, h), biases (g h,) or None, g gates;
y (t, n, h) holds the state h after each step. reverse: from the last step to the first.
Gradients: dy (t, n, h), and dh, dc (n, h) or None of the state after the last step taken.
"""

import numpy as np

from flambeau.kernels.reference.activation import sigmoid
from flambeau.kernels.reference.linear import linear, linear_backward


def lstm(x, h0, c0, w_ih, w_hh, b_ih, b_hh, reverse):
    """c' = f c + i g, h' = o tanh c'

    with i, f, g, o = σ, σ, tanh, σ of W_ih x + b_ih + W_hh h + b_hh
    -> y, c (t, n, h), gates (t, n, 4h): i, f, g, o
    """
    gates = linear(x, w_ih, b_ih)
    y, c = np.empty((2, *x.shape[:2], h0.shape[1]), x.dtype)
    for t in steps(x, reverse):
        i, f, g, o = np.split(gates[t] + linear(h0, w_hh, b_hh), 4, axis=1)
        i, f, g, o = sigmoid(i), sigmoid(f), np.tanh(g), sigmoid(o)
        gates[t] = np.concatenate([i, f, g, o], axis=1)
        c0 = c[t] = f * c0 + i * g
        h0 = y[t] = o * np.tanh(c0)
    return y, c, gates


def lstm_backward(
    x, h0, c0, w_ih, w_hh, y, c, gates, dy, dh, dc, dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx
):
    """dx or None, dh0, dc0; the gradients of the parameters (or None) are added to"""
    da = np.empty_like(gates)
    dh, dc = zeros_for(dh, h0), zeros_for(dc, c0)
    before = shifted(c, c0, reverse)
    for t in steps(x, not reverse):
        i, f, g, o = np.split(gates[t], 4, axis=1)
        tanh = np.tanh(c[t])
        dh = dh + dy[t]
        dc = dc + dh * o * (1 - tanh**2)
        of_gates = dc * g, dc * before[t], dc * i, dh * tanh
        slopes = i * (1 - i), f * (1 - f), 1 - g**2, o * (1 - o)
        da[t] = np.concatenate([d * s for d, s in zip(of_gates, slopes, strict=True)], axis=1)
        dh, dc = da[t] @ w_hh, dc * f
    linear_backward(shifted(y, h0, reverse), da, w_hh, dw_hh, db_hh, False)
    return linear_backward(x, da, w_ih, dw_ih, db_ih, want_dx), dh, dc


def gru(x, h0, w_ih, w_hh, b_ih, b_hh, reverse):
    """h' = (1 - z) n + z h, with n = tanh(W_in x + b_in + r (W_hn h + b_hn))

    and r, z = σ(W_ih x + b_ih + W_hh h + b_hh) -> y (t, n, h), gates (t, n, 3h): r, z, n,
    hidden (t, n, h): W_hn h + b_hn
    """
    gates = linear(x, w_ih, b_ih)
    y, hidden = np.empty((2, *x.shape[:2], h0.shape[1]), x.dtype)
    for t in steps(x, reverse):
        r, z, n = np.split(gates[t], 3, axis=1)
        to_r, to_z, hidden[t] = np.split(linear(h0, w_hh, b_hh), 3, axis=1)
        r, z = sigmoid(r + to_r), sigmoid(z + to_z)
        n = np.tanh(n + r * hidden[t])
        gates[t] = np.concatenate([r, z, n], axis=1)
        h0 = y[t] = n + z * (h0 - n)
    return y, gates, hidden


def gru_backward(
    x, h0, w_ih, w_hh, y, gates, hidden, dy, dh, dw_ih, dw_hh, db_ih, db_hh, reverse, want_dx
):
    """dx or None, dh0; the gradients of the parameters (or None) are added to"""
    da, da_hidden = np.empty((2, *gates.shape), x.dtype)
    dh = zeros_for(dh, h0)
    before = shifted(y, h0, reverse)
    for t in steps(x, not reverse):
        r, z, n = np.split(gates[t], 3, axis=1)
        dh = dh + dy[t]
        dn = dh * (1 - z) * (1 - n**2)
        dr, dz = dn * hidden[t] * r * (1 - r), dh * (before[t] - n) * z * (1 - z)
        da[t] = np.concatenate([dr, dz, dn], axis=1)
        da_hidden[t] = np.concatenate([dr, dz, dn * r], axis=1)
        dh = dh * z + da_hidden[t] @ w_hh
    linear_backward(before, da_hidden, w_hh, dw_hh, db_hh, False)
    return linear_backward(x, da, w_ih, dw_ih, db_ih, want_dx), dh


def rnn(x, h0, w_ih, w_hh, b_ih, b_hh, relu, reverse):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or max(0, …) (relu) -> y (t, n, h)"""
    y = linear(x, w_ih, b_ih)
    for t in steps(x, reverse):
        a = y[t] + linear(h0, w_hh, b_hh)
        h0 = y[t] = np.maximum(a, 0) if relu else np.tanh(a)
    return y


def rnn_backward(x, h0, w_ih, w_hh, y, dy, dh, dw_ih, dw_hh, db_ih, db_hh, relu, reverse, want_dx):
    """dx or None, dh0; the gradients of the parameters (or None) are added to"""
    da = np.empty_like(y)
    dh = zeros_for(dh, h0)
    for t in steps(x, not reverse):
        da[t] = (dh + dy[t]) * ((y[t] > 0) if relu else 1 - y[t] ** 2)
        dh = da[t] @ w_hh
    linear_backward(shifted(y, h0, reverse), da, w_hh, dw_hh, db_hh, False)
    return linear_backward(x, da, w_ih, dw_ih, db_ih, want_dx), dh


def steps(x, reverse):
    """The steps of x in the order in which they are taken."""
    return range(len(x) - 1, -1, -1) if reverse else range(len(x))


def shifted(y, h0, reverse):
    """The state before each step: y (t, n, h) and the initial h0 (n, h)."""
    return np.concatenate([y[1:], h0[None]] if reverse else [h0[None], y[:-1]])


def zeros_for(dh, h0):
    """The gradient of a state, which is zero when it is None."""
    return np.zeros_like(h0) if dh is None else dh
