/* Losses of one output and one target each, see kernels/reference/pointwise_loss.py. */
#include "kernel.h"

enum { MSE, L1, SMOOTH_L1, HUBER, BCE, BCE_LOGITS, KL, KL_LOG };  /* the order of KINDS */

__device__ inline real loss_of(i64 kind, real x, real t, real option) {
    real d = x - t, size = fabs(d);
    switch (kind) {
        case MSE: return d * d;
        case L1: return size;
        case SMOOTH_L1: return size < option ? d * d / (2 * option) : size - option / 2;
        case HUBER: return size < option ? d * d / 2 : option * (size - option / 2);
        case BCE: return -t * fmax(log(x), (real)-100) - (1 - t) * fmax(log1p(-x), (real)-100);
        case BCE_LOGITS: return (x < 0 ? 0 : x) - x * t + log1p(exp(-fabs(x)));
        case KL: return t == 0 ? 0 : t * (log(t) - x);
        default: return exp(t) * (t - x);
    }
}

__device__ inline real loss_slope(i64 kind, real x, real t, real option) {
    real d = x - t, size = fabs(d), sign = d > 0 ? 1 : d < 0 ? -1 : d, e = exp(-fabs(x));
    switch (kind) {
        case MSE: return 2 * d;
        case L1: return sign;
        case SMOOTH_L1: return size < option ? d / option : sign;
        case HUBER: return size < option ? d : option * sign;
        case BCE: return d / fmax(x * (1 - x), (real)1e-12);
        case BCE_LOGITS: return (x < 0 ? e : 1) / (1 + e) - t;
        case KL: return -t;
        default: return -exp(t);
    }
}

KERNEL pointwise_losses(const real *x, const real *target, real *y, i64 n, i64 kind, real option) {
    STRIDED(i, n) y[i] = loss_of(kind, x[i], target[i], option);
}

KERNEL pointwise_loss_backward(const real *x, const real *target, real *dx, i64 n, i64 kind,
                               real option, real scale) {
    STRIDED(i, n) dx[i] = scale * loss_slope(kind, x[i], target[i], option);
}
