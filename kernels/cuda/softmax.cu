/* Softmax and its logarithm along an axis: x is (outer, count, inner), one block a row. */
#include "softmax.h"

#define ROW(row) (((row) / inner * count) * inner + (row) % inner)

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
        LogSum total = log_sum(from, count, inner, shared);
        THREADS(i, count) to[i * inner] = log_share(from[i * inner], total);
    }
}

/* dx = y (dy - Σ y dy) */
KERNEL softmax_backward(const real *x, const real *dy, real *dx, i64 outer, i64 count, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(row, outer * inner) {
        const real *from = x + ROW(row), *d = dy + ROW(row);
        real *to = dx + ROW(row);
        LogSum total = log_sum(from, count, inner, shared);
        real sum = 0;
        THREADS(i, count) sum += exp(log_share(from[i * inner], total)) * d[i * inner];
        sum = block_sum(sum, shared);
        THREADS(i, count)
            to[i * inner] = exp(log_share(from[i * inner], total)) * (d[i * inner] - sum);
    }
}

/* dx = dy - e^y Σ dy */
KERNEL log_softmax_backward(const real *x, const real *dy, real *dx, i64 outer, i64 count,
                            i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(row, outer * inner) {
        const real *from = x + ROW(row), *d = dy + ROW(row);
        real *to = dx + ROW(row);
        LogSum total = log_sum(from, count, inner, shared);
        real sum = 0;
        THREADS(i, count) sum += d[i * inner];
        sum = block_sum(sum, shared);
        THREADS(i, count)
            to[i * inner] = d[i * inner] - exp(log_share(from[i * inner], total)) * sum;
    }
}
