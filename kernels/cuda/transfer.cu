/* Functions of one value by their kind, see kernels/reference/transfer.py; x is held where its
   factor is 0 already, as there. */
#include "kernel.h"

enum {  /* the order of KINDS */
    GELU, GELU_TANH, SILU, MISH, HARDSIGMOID, HARDSWISH, SOFTSIGN, LOG_SIGMOID, TANHSHRINK,
    SOFTSHRINK, HARDSHRINK, THRESHOLD, CELU, SELU
};

/* NaN stays NaN */
__device__ inline real held(real x, real low, real high) {
    return x < low ? low : x > high ? high : x;
}

__device__ inline real logistic(real x) {
    real e = exp(-fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}

__device__ inline real logistic_slope(real x) {
    real e = exp(-fabs(x));
    return e / ((1 + e) * (1 + e));
}

__device__ inline real normal_distribution(real x) {
    return erfc(x * (real)-0.70710678118654752) / 2;
}

/* 2u = √(8/π) (x + 0.044715 x³) */
__device__ inline real gelu_cubic(real x) {
    return (real)1.5957691216057308 * x * (1 + (real)0.044715 * x * x);
}

/* tanh ln(1 + eˣ) = (e²ˣ + 2eˣ) / (e²ˣ + 2eˣ + 2), for x > 0 with both sides divided by e²ˣ */
__device__ inline real mish_factor(real x) {
    real e = exp(-fabs(x)), below = e * (e + 2), above = 1 + 2 * e;
    return x > 0 ? above / (above + 2 * e * e) : below / (below + 2);
}

/* The slope of that factor, 4eˣ (1 + eˣ) / (e²ˣ + 2eˣ + 2)², likewise */
__device__ inline real mish_factor_slope(real x) {
    real e = exp(-fabs(x)), d = x > 0 ? 1 + 2 * e + 2 * e * e : e * (e + 2) + 2;
    return 4 * e * (1 + e) * (x > 0 ? e : 1) / (d * d);
}

__device__ inline real transfer_of(i64 kind, real x, real a, real b) {
    real v = x < -10000 ? -10000 : x, w = held(x, -100, 100);
    switch (kind) {
        case GELU: return v * normal_distribution(x);
        case GELU_TANH: return v * logistic(gelu_cubic(w));
        case SILU: return v * logistic(x);
        case MISH: return v * mish_factor(x);
        case HARDSIGMOID: return held(x / 6 + (real)0.5, 0, 1);
        case HARDSWISH: return v * held(x / 6 + (real)0.5, 0, 1);
        case SOFTSIGN: x = held(x, (real)-1e30, (real)1e30); return x / (1 + fabs(x));
        case LOG_SIGMOID: return (x > 0 ? 0 : x) - log1p(exp(-fabs(x)));
        case TANHSHRINK: return x - tanh(x);
        case SOFTSHRINK: return x - held(x, -a, a);
        case HARDSHRINK: return fabs(x) <= a ? 0 : x;
        case THRESHOLD: return x <= a ? b : x;
        case CELU: return x > 0 ? x : a * expm1(x / a);
        default: return b * (x > 0 ? x : a * expm1(x));
    }
}

__device__ inline real transfer_slope(i64 kind, real x, real a, real b) {
    real v = held(x, -10000, 10000), w = held(x, -100, 100);
    switch (kind) {
        case GELU:
            return normal_distribution(w) + w * (real)0.39894228040143268 * exp(w * w / -2);
        case GELU_TANH: {
            real rise = (real)1.5957691216057308 * (1 + (real)(3 * 0.044715) * w * w);
            return logistic(gelu_cubic(w)) + w * rise * logistic_slope(gelu_cubic(w));
        }
        case SILU: return logistic(x) + v * logistic_slope(x);
        case MISH: return mish_factor(x) + v * mish_factor_slope(x);
        case HARDSIGMOID: return x > -3 && x < 3 ? (real)(1.0 / 6) : 0;
        case HARDSWISH: return x < 3 ? x > -3 ? x / 3 + (real)0.5 : 0 : 1;
        case SOFTSIGN: x = 1 / (1 + fabs(x)); return x * x;
        case LOG_SIGMOID: return logistic(-x);
        case TANHSHRINK: x = tanh(x); return x * x;
        case SOFTSHRINK:
        case HARDSHRINK: return fabs(x) > a ? 1 : 0;
        case THRESHOLD: return x > a ? 1 : 0;
        case CELU: return x > 0 ? 1 : exp(x / a);
        default: return b * (x > 0 ? 1 : a * exp(x));
    }
}

KERNEL transfer(const real *x, real *y, i64 n, i64 kind, real a, real b) {
    STRIDED(i, n) y[i] = transfer_of(kind, x[i], a, b);
}

KERNEL transfer_backward(const real *x, const real *dy, real *dx, i64 n, i64 kind, real a,
                         real b) {
    STRIDED(i, n) dx[i] = dy[i] * transfer_slope(kind, x[i], a, b);
}
