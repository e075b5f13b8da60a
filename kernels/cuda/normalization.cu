/* Normalisation by batch statistics and by local energy; x is (n, c, inner). */
#include "kernel.h"

/* mean = Σ x / m, inv_std = 1/√(Σ (x - mean)² / m + eps), m = n inner; where the running ones are
   not null they move by momentum towards mean and the unbiased variance. One block a channel. */
KERNEL batch_statistics(const real *x, real *mean, real *inv_std, real *running_mean,
                        real *running_var, i64 n, i64 c, i64 inner, real momentum, real eps) {
    SHARED real shared[BLOCK];
    BLOCKS(k, c) {
        real sum = 0, rest = 0, square = 0;
        THREADS(j, n * inner) sum += x[(j / inner * c + k) * inner + j % inner];
        real centre = block_sum(sum, shared) / (n * inner);
        THREADS(j, n * inner) {
            real from = x[(j / inner * c + k) * inner + j % inner] - centre;
            rest += from;
            square += from * from;
        }
        rest = block_sum(rest, shared) / (n * inner); /* what the first sum lost to rounding */
        square = block_sum(square, shared) - rest * rest * (n * inner);
        if (threadIdx.x > 0) continue;
        centre += rest;
        real variance = square / (n * inner);
        mean[k] = centre;
        inv_std[k] = 1 / sqrt(variance + eps);
        if (running_mean) running_mean[k] += momentum * (centre - running_mean[k]);
        if (running_var) running_var[k] += momentum * (square / (n * inner - 1) - running_var[k]);
    }
}

KERNEL inverse_root(const real *x, real *y, i64 n, real eps) {
    STRIDED(i, n) y[i] = 1 / sqrt(x[i] + eps);
}

/* y = (x - mean) inv_std w + b, w and b may be null */
KERNEL batch_norm(const real *x, const real *w, const real *b, const real *mean,
                  const real *inv_std, real *y, i64 n, i64 c, i64 inner) {
    STRIDED(i, n) {
        i64 k = i / inner % c;
        y[i] = (x[i] - mean[k]) * inv_std[k] * (w ? w[k] : 1) + (b ? b[k] : 0);
    }
}

/* sums = (Σ dy, Σ dy x̂), db += Σ dy, dw += Σ dy x̂; dw, db may be null. One block a channel. */
KERNEL batch_norm_sums(const real *x, const real *dy, const real *mean, const real *inv_std,
                       real *sums, real *dw, real *db, i64 n, i64 c, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(k, c) {
        real sum = 0, product = 0;
        THREADS(j, n * inner) {
            i64 i = (j / inner * c + k) * inner + j % inner;
            sum += dy[i];
            product += dy[i] * (x[i] - mean[k]) * inv_std[k];
        }
        sum = block_sum(sum, shared);
        product = block_sum(product, shared);
        if (threadIdx.x > 0) continue;
        sums[k] = sum;
        sums[c + k] = product;
        if (db) db[k] += sum;
        if (dw) dw[k] += product;
    }
}

/* dx = w inv_std (dy - (Σ dy + x̂ Σ dy x̂) / m), in training; without the sums (null) otherwise */
KERNEL batch_norm_backward(const real *x, const real *dy, const real *w, const real *mean,
                           const real *inv_std, const real *sums, real *dx, i64 n, i64 c,
                           i64 inner) {
    STRIDED(i, n) {
        i64 k = i / inner % c;
        real d = dy[i];
        if (sums) d -= (sums[k] + (x[i] - mean[k]) * inv_std[k] * sums[c + k]) / (n / c);
        dx[i] = d * inv_std[k] * (w ? w[k] : 1);
    }
}

/* The neighbours of a value: the box from `low` before to `high` after it, over channels (deep) or
   over the plane. x is (n, c, h, w). */
struct Box {
    i64 c0, c1, y0, y1, x0, x1;
};

__device__ inline Box box(i64 i, i64 c, i64 h, i64 w, i64 low, i64 high, i64 within) {
    i64 k = i / (h * w) % c, y = i / w % h, x = i % w;
    i64 deep = within ? 0 : 1, flat = within ? 1 : 0;
    Box b = {k - deep * low,  k + deep * high + 1, y - flat * low,
             y + flat * high + 1, x - flat * low,  x + flat * high + 1};
    b.c0 = b.c0 < 0 ? 0 : b.c0;
    b.y0 = b.y0 < 0 ? 0 : b.y0;
    b.x0 = b.x0 < 0 ? 0 : b.x0;
    b.c1 = b.c1 > c ? c : b.c1;
    b.y1 = b.y1 > h ? h : b.y1;
    b.x1 = b.x1 > w ? w : b.x1;
    return b;
}

#define IN_BOX(j, b)                                                                              \
    for (i64 bc = (b).c0; bc < (b).c1; bc++)                                                      \
        for (i64 by = (b).y0; by < (b).y1; by++)                                                  \
            for (i64 j = ((image * c + bc) * h + by) * w + (b).x0, stop = j - (b).x0 + (b).x1;    \
                 j < stop; j++)

/* scale = k + alpha Σ x² over the neighbours */
KERNEL response_scale(const real *x, real *scale, i64 n, i64 c, i64 h, i64 w, i64 low, i64 high,
                      i64 within, real alpha, real k) {
    STRIDED(i, n) {
        i64 image = i / (c * h * w);
        Box near = box(i, c, h, w, low, high, within);
        real sum = 0;
        IN_BOX(j, near) sum += x[j] * x[j];
        scale[i] = k + alpha * sum;
    }
}

/* y = x scale^-beta */
KERNEL response_norm(const real *x, const real *scale, real *y, i64 n, real beta) {
    STRIDED(i, n) y[i] = x[i] * pow(scale[i], -beta);
}

/* dx = dy scale^-beta - 2 alpha beta x Σ dy x scale^(-beta-1) over those it is a neighbour of */
KERNEL response_norm_backward(const real *x, const real *dy, const real *scale, real *dx, i64 n,
                              i64 c, i64 h, i64 w, i64 low, i64 high, i64 within, real alpha,
                              real beta) {
    STRIDED(i, n) {
        i64 image = i / (c * h * w);
        Box near = box(i, c, h, w, high, low, within);
        real sum = 0;
        IN_BOX(j, near) sum += dy[j] * x[j] * pow(scale[j], -beta - 1);
        dx[i] = dy[i] * pow(scale[i], -beta) - 2 * alpha * beta * x[i] * sum;
    }
}
