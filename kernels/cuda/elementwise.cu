/* Sums, products, maxima and functions of arrays of one shape, and scales by channel. */
#include "kernel.h"

KERNEL add(const real *x, const real *x2, real *y, i64 n) {
    all_values(n, y, [](real a, real b) { return a + b; }, x, x2);
}

KERNEL mul(const real *x, const real *x2, real *y, i64 n) {
    all_values(n, y, [](real a, real b) { return a * b; }, x, x2);
}

/* NaN stays NaN. */
KERNEL maximum(const real *x, const real *x2, real *y, i64 n) {
    STRIDED(i, n) y[i] = x[i] > x2[i] || isnan(x[i]) ? x[i] : x2[i];
}

/* best = max(best, x); index = number where x is greater, -1 where there is a NaN */
KERNEL maximum_index(const real *x, real *best, int *index, i64 n, i64 number) {
    STRIDED(i, n) {
        if (!(x[i] > best[i]) && !isnan(x[i])) continue;
        best[i] = x[i];
        index[i] = isnan(x[i]) ? -1 : (int)number;
    }
}

KERNEL maximum_backward(const real *dy, const int *index, real *dx, i64 n, i64 number) {
    STRIDED(i, n) dx[i] = index[i] == number ? dy[i] : 0;
}

KERNEL affine(const real *x, real *y, i64 n, real scale, real shift) {
    all_values(n, y, [=](real a) { return scale * a + shift; }, x);
}

/* y = x w[c] + b[c]: x (n, c, inner), w and b may be null */
KERNEL channel_scale(const real *x, const real *w, const real *b, real *y, i64 n, i64 c,
                     i64 inner) {
    STRIDED(i, n) {
        i64 k = i / inner % c;
        y[i] = x[i] * (w ? w[k] : 1) + (b ? b[k] : 0);
    }
}

/* dw[c] += Σ x dy, db[c] += Σ dy: one block a channel, dw and db may be null */
KERNEL channel_sums(const real *x, const real *dy, real *dw, real *db, i64 outer, i64 c,
                    i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(k, c) {
        real sum_w = 0, sum_b = 0;
        THREADS(j, outer * inner) {
            i64 i = (j / inner * c + k) * inner + j % inner;
            sum_w += x[i] * dy[i];
            sum_b += dy[i];
        }
        sum_w = block_sum(sum_w, shared);
        sum_b = block_sum(sum_b, shared);
        if (threadIdx.x == 0) {
            if (dw) dw[k] += sum_w;
            if (db) db[k] += sum_b;
        }
    }
}

/* x^p; for p = 1/2 the square root, as in NumPy: of -inf there is none, but C's power gives inf */
__device__ inline real raised(real x, real p) { return p == (real)0.5 ? sqrt(x) : pow(x, p); }

KERNEL power(const real *x, real *y, i64 n, real exponent) {
    STRIDED(i, n) y[i] = raised(x[i], exponent);
}

KERNEL power_backward(const real *x, const real *dy, real *dx, i64 n, real exponent) {
    STRIDED(i, n) dx[i] = exponent == 0 ? 0 : dy[i] * exponent * raised(x[i], exponent - 1);
}

/* The system headers name exp, log and abs themselves. */
KERNEL exp_forward(const real *x, real *y, i64 n) {
    STRIDED(i, n) y[i] = exp(x[i]);
}

KERNEL exp_backward(const real *x, const real *dy, real *dx, i64 n) {
    STRIDED(i, n) dx[i] = dy[i] * exp(x[i]);
}

KERNEL log_forward(const real *x, real *y, i64 n) {
    STRIDED(i, n) y[i] = log(x[i]);
}

KERNEL log_backward(const real *x, const real *dy, real *dx, i64 n) {
    STRIDED(i, n) dx[i] = dy[i] / x[i];
}

KERNEL abs_forward(const real *x, real *y, i64 n) {
    STRIDED(i, n) y[i] = fabs(x[i]);
}

KERNEL abs_backward(const real *x, const real *dy, real *dx, i64 n) {
    STRIDED(i, n) dx[i] = dy[i] * (x[i] > 0 ? 1 : x[i] < 0 ? -1 : x[i]);
}
