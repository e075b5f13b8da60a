/* The gates of recurrent layers, one step at a time: a is W_ih x + b_ih and ah is W_hh h + b_hh. */
#include "kernel.h"

__device__ inline real logistic(real x) {
    real e = exp(x < 0 ? x : -x);
    return (x < 0 ? e : 1) / (1 + e);
}

/* gates (n, 4h): a, becomes i, f, g, o */
KERNEL lstm(real *gates, const real *ah, const real *c0, real *c, real *y, i64 n, i64 h) {
    STRIDED(at, n * h) {
        i64 wide = at / h * 4 * h + at % h;
        real i = logistic(gates[wide] + ah[wide]);
        real f = logistic(gates[wide + h] + ah[wide + h]);
        real g = tanh(gates[wide + 2 * h] + ah[wide + 2 * h]);
        real o = logistic(gates[wide + 3 * h] + ah[wide + 3 * h]);
        gates[wide] = i;
        gates[wide + h] = f;
        gates[wide + 2 * h] = g;
        gates[wide + 3 * h] = o;
        c[at] = f * c0[at] + i * g;
        y[at] = o * tanh(c[at]);
    }
}

/* dh and dc of the state after the step; dc becomes that of the state before it */
KERNEL lstm_backward(const real *gates, const real *c0, const real *c, const real *dy,
                     const real *dh, real *dc, real *da, i64 n, i64 h) {
    STRIDED(at, n * h) {
        i64 wide = at / h * 4 * h + at % h;
        real i = gates[wide], f = gates[wide + h];
        real g = gates[wide + 2 * h], o = gates[wide + 3 * h];
        real squashed = tanh(c[at]), d = dh[at] + dy[at];
        real now = dc[at] + d * o * (1 - squashed * squashed);
        da[wide] = now * g * i * (1 - i);
        da[wide + h] = now * c0[at] * f * (1 - f);
        da[wide + 2 * h] = now * i * (1 - g * g);
        da[wide + 3 * h] = d * squashed * o * (1 - o);
        dc[at] = now * f;
    }
}

/* gates (n, 3h): a, becomes r, z, n; hidden (n, h): the last third of ah */
KERNEL gru(real *gates, const real *ah, const real *h0, real *hidden, real *y, i64 n, i64 h) {
    STRIDED(at, n * h) {
        i64 wide = at / h * 3 * h + at % h;
        real r = logistic(gates[wide] + ah[wide]);
        real z = logistic(gates[wide + h] + ah[wide + h]);
        real value = tanh(gates[wide + 2 * h] + r * ah[wide + 2 * h]);
        gates[wide] = r;
        gates[wide + h] = z;
        gates[wide + 2 * h] = value;
        hidden[at] = ah[wide + 2 * h];
        y[at] = value + z * (h0[at] - value);
    }
}

/* straight (n, h): the part of the gradient of h0 that does not pass W_hh */
KERNEL gru_backward(const real *gates, const real *hidden, const real *h0, const real *dy,
                    const real *dh, real *straight, real *da, real *da_hidden, i64 n, i64 h) {
    STRIDED(at, n * h) {
        i64 wide = at / h * 3 * h + at % h;
        real r = gates[wide], z = gates[wide + h], value = gates[wide + 2 * h];
        real d = dh[at] + dy[at], dn = d * (1 - z) * (1 - value * value);
        da[wide] = da_hidden[wide] = dn * hidden[at] * r * (1 - r);
        da[wide + h] = da_hidden[wide + h] = d * (h0[at] - value) * z * (1 - z);
        da[wide + 2 * h] = dn;
        da_hidden[wide + 2 * h] = dn * r;
        straight[at] = d * z;
    }
}

/* y (n, h): a, becomes tanh(a + ah), or max(0, a + ah) */
KERNEL rnn(real *y, const real *ah, i64 n, i64 relu) {
    STRIDED(at, n) {
        real a = y[at] + ah[at];
        y[at] = !relu ? tanh(a) : a < 0 ? 0 : a;
    }
}

KERNEL rnn_backward(const real *y, const real *dy, const real *dh, real *da, i64 n, i64 relu) {
    STRIDED(at, n) {
        real slope = relu ? y[at] > 0 : 1 - y[at] * y[at];
        da[at] = (dh[at] + dy[at]) * slope;
    }
}
