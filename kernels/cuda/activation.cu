/* Functions of one value, applied to every element. NaN stays NaN. */
#include "kernel.h"

KERNEL relu(const real *x, real *y, i64 n) {
    all_values(n, y, [](real a) { return a <= 0 ? (real)0 : a; }, x);
}

KERNEL relu_backward(const real *x, const real *dy, real *dx, i64 n) {
    all_values(n, dx, [](real a, real d) { return a > 0 ? d : (real)0; }, x, dy);
}

KERNEL clamp(const real *x, real *y, i64 n, real low, real high) {
    all_values(n, y, [=](real a) { return a < low ? low : a > high ? high : a; }, x);
}

KERNEL clamp_backward(const real *x, const real *dy, real *dx, i64 n, real low, real high) {
    all_values(n, dx, [=](real a, real d) { return a > low && a < high ? d : (real)0; }, x, dy);
}

KERNEL leaky_relu(const real *x, real *y, i64 n, real slope) {
    STRIDED(i, n) y[i] = x[i] > 0 ? x[i] : slope * x[i];
}

KERNEL leaky_relu_backward(const real *x, const real *dy, real *dx, i64 n, real slope) {
    STRIDED(i, n) dx[i] = x[i] > 0 ? dy[i] : slope * dy[i];
}

KERNEL elu(const real *x, real *y, i64 n, real alpha) {
    STRIDED(i, n) y[i] = x[i] > 0 ? x[i] : alpha * expm1(x[i]);
}

KERNEL elu_backward(const real *x, const real *dy, real *dx, i64 n, real alpha) {
    STRIDED(i, n) dx[i] = x[i] > 0 ? dy[i] : dy[i] * alpha * exp(x[i]);
}

/* 1/(1 + e⁻ˣ) without overflow */
__device__ inline real logistic(real x) {
    real e = exp(-fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}

KERNEL sigmoid(const real *x, real *y, i64 n) {
    STRIDED(i, n) y[i] = logistic(x[i]);
}

/* dx = dy y (1 - y), y = e⁻ˣ / (1 + e⁻ˣ) of -|x|, where 1 - y does not cancel */
KERNEL sigmoid_backward(const real *x, const real *dy, real *dx, i64 n) {
    STRIDED(i, n) {
        real e = exp(-fabs(x[i]));
        dx[i] = dy[i] * e / ((1 + e) * (1 + e));
    }
}

/* The system header names tanh itself. */
KERNEL tanh_forward(const real *x, real *y, i64 n) {
    STRIDED(i, n) y[i] = tanh(x[i]);
}

KERNEL tanh_backward(const real *x, const real *dy, real *dx, i64 n) {
    STRIDED(i, n) {
        real y = tanh(x[i]);
        dx[i] = dy[i] * (1 - y * y);
    }
}

KERNEL softplus(const real *x, real *y, i64 n, real beta) {
    STRIDED(i, n) {
        real z = beta * x[i];
        y[i] = ((z > 0 ? z : 0) + log1p(exp(-fabs(z)))) / beta;
    }
}

KERNEL softplus_backward(const real *x, const real *dy, real *dx, i64 n, real beta) {
    STRIDED(i, n) dx[i] = dy[i] * logistic(beta * x[i]);
}

/* x (n, c, inner); w (c,), c = 1: one slope for all */
KERNEL prelu(const real *x, const real *w, real *y, i64 n, i64 c, i64 inner) {
    STRIDED(i, n) y[i] = x[i] > 0 ? x[i] : w[i / inner % c] * x[i];
}

KERNEL prelu_backward(const real *x, const real *dy, const real *w, real *dx, i64 n, i64 c,
                      i64 inner) {
    STRIDED(i, n) dx[i] = x[i] > 0 ? dy[i] : w[i / inner % c] * dy[i];
}

/* dw[k] += Σ x dy over x <= 0 of channel k, one block a channel */
KERNEL prelu_slope(const real *x, const real *dy, real *dw, i64 outer, i64 c, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(k, c) {
        real sum = 0;
        THREADS(j, outer * inner) {
            i64 i = (j / inner * c + k) * inner + j % inner;
            if (!(x[i] > 0)) sum += x[i] * dy[i];
        }
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) dw[k] += sum;
    }
}
