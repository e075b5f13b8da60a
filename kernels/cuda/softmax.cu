/* Softmax and its logarithm along an axis: x is (outer, count, inner), one block a row. */
#include "kernel.h"

#define ROW(row) (((row) / inner * count) * inner + (row) % inner)

/* log Σ exp x of one row, by all threads of the block; the greatest is taken out first. */
__device__ inline real log_sum(const real *x, i64 count, i64 inner, real *shared) {
    real greatest = -INFINITY, sum = 0;
    THREADS(i, count) greatest = fmax(greatest, x[i * inner]);
    greatest = block_max(greatest, shared);
    THREADS(i, count) sum += exp(x[i * inner] - greatest);
    return greatest + log(block_sum(sum, shared));
}

KERNEL softmax(const real *x, real *y, i64 outer, i64 count, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(row, outer * inner) {
        const real *from = x + ROW(row);
        real *to = y + ROW(row);
        real greatest = -INFINITY, sum = 0;
        THREADS(i, count) greatest = fmax(greatest, from[i * inner]);
        greatest = block_max(greatest, shared);
        THREADS(i, count) sum += exp(from[i * inner] - greatest);
        sum = block_sum(sum, shared);
        THREADS(i, count) to[i * inner] = exp(from[i * inner] - greatest) / sum;
    }
}

KERNEL log_softmax(const real *x, real *y, i64 outer, i64 count, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(row, outer * inner) {
        const real *from = x + ROW(row);
        real *to = y + ROW(row);
        real total = log_sum(from, count, inner, shared);
        THREADS(i, count) to[i * inner] = from[i * inner] - total;
    }
}

/* dx = y (dy - Σ y dy) */
KERNEL softmax_backward(const real *x, const real *dy, real *dx, i64 outer, i64 count, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(row, outer * inner) {
        const real *from = x + ROW(row), *d = dy + ROW(row);
        real *to = dx + ROW(row);
        real total = log_sum(from, count, inner, shared), sum = 0;
        THREADS(i, count) sum += exp(from[i * inner] - total) * d[i * inner];
        sum = block_sum(sum, shared);
        THREADS(i, count) to[i * inner] = exp(from[i * inner] - total) * (d[i * inner] - sum);
    }
}

/* dx = dy - e^y Σ dy */
KERNEL log_softmax_backward(const real *x, const real *dy, real *dx, i64 outer, i64 count,
                            i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(row, outer * inner) {
        const real *from = x + ROW(row), *d = dy + ROW(row);
        real *to = dx + ROW(row);
        real total = log_sum(from, count, inner, shared), sum = 0;
        THREADS(i, count) sum += d[i * inner];
        sum = block_sum(sum, shared);
        THREADS(i, count) to[i * inner] = d[i * inner] - exp(from[i * inner] - total) * sum;
    }
}
