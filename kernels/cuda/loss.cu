/* Losses: x (n, c, inner), target (n, inner) of classes; a row is the c values at one place. */
#include "softmax.h"

/* part[b] = the sum of x[b], x[b + parts], ...: one block a part */
KERNEL sum(const real *x, real *part, i64 n, i64 parts) {
    SHARED real shared[BLOCK];
    BLOCKS(b, parts) {
        real total = 0;
        THREADS(j, (n - b + parts - 1) / parts) total += x[b + j * parts];
        total = block_sum(total, shared);
        if (threadIdx.x == 0) part[b] = total;
    }
}

/* losses = -weight[t] x[t], weights = weight[t] of each row, zeros where t is ignore; weight may be
   null */
KERNEL nll_loss(const real *x, const i64 *target, const real *weight, real *losses, real *weights,
                i64 rows, i64 c, i64 inner, i64 ignore) {
    STRIDED(row, rows) {
        i64 t = target[row];
        real factor = t == ignore ? 0 : weight ? weight[t] : 1;
        losses[row] = t == ignore ? 0 : -factor * x[(row / inner * c + t) * inner + row % inner];
        weights[row] = factor;
    }
}

/* dx = -scale weight[t] at t, 0 elsewhere */
KERNEL nll_loss_backward(const i64 *target, const real *weight, real *dx, i64 n, i64 c, i64 inner,
                         i64 ignore, real scale) {
    STRIDED(i, n) {
        i64 k = i / inner % c, t = target[i / (inner * c) * inner + i % inner];
        dx[i] = t == k && t != ignore ? -scale * (weight ? weight[t] : 1) : 0;
    }
}

/* How much class k of a row of target t counts */
__device__ inline real share(i64 k, i64 t, const real *weight, i64 c, real smoothing) {
    return (weight ? weight[k] : 1) * ((k == t ? 1 - smoothing : 0) + smoothing / c);
}

/* losses = -Σ share log softmax x, weights = weight[t], zeros where t is ignore; one block a row */
KERNEL cross_entropy(const real *x, const i64 *target, const real *weight, real *losses,
                     real *weights, i64 rows, i64 c, i64 inner, i64 ignore, real smoothing) {
    SHARED real shared[BLOCK];
    BLOCKS(row, rows) {
        const real *from = x + row / inner * c * inner + row % inner;
        i64 t = target[row];
        LogSum total = log_sum(from, c, inner, shared);
        real loss = 0;
        THREADS(k, c)
            if (k == t || smoothing > 0)
                loss -= share(k, t, weight, c, smoothing) * log_share(from[k * inner], total);
        loss = block_sum(loss, shared);
        if (threadIdx.x > 0) continue;
        losses[row] = t == ignore ? 0 : loss;
        weights[row] = t == ignore ? 0 : weight ? weight[t] : 1;
    }
}

/* dx = scale (softmax x Σ share - share), 0 in rows that are ignored; one block a row */
KERNEL cross_entropy_backward(const real *x, const i64 *target, const real *weight, real *dx,
                              i64 rows, i64 c, i64 inner, i64 ignore, real smoothing, real scale) {
    SHARED real shared[BLOCK];
    BLOCKS(row, rows) {
        i64 first = row / inner * c * inner + row % inner, t = target[row];
        const real *from = x + first;
        LogSum total = log_sum(from, c, inner, shared);
        real all = 0;
        THREADS(k, c) all += share(k, t, weight, c, smoothing);
        all = block_sum(all, shared);
        THREADS(k, c) {
            real d = exp(log_share(from[k * inner], total)) * all;
            d -= share(k, t, weight, c, smoothing);
            dx[first + k * inner] = t == ignore ? 0 : scale * d;
        }
    }
}

KERNEL squares(const real *x, const real *target, real *y, i64 n) {
    STRIDED(i, n) y[i] = (x[i] - target[i]) * (x[i] - target[i]);
}

KERNEL mse_loss_backward(const real *x, const real *target, real *dx, i64 n, real scale) {
    STRIDED(i, n) dx[i] = 2 * scale * (x[i] - target[i]);
}
