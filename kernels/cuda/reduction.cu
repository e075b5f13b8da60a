/* Sums and extremes over the middle axis of x (outer, n, inner). */
#include "kernel.h"

/* y = scale Σ x where inner is 1, one block a row */
KERNEL sum_rows(const real *x, real *y, i64 outer, i64 n, real scale) {
    SHARED real shared[BLOCK];
    BLOCKS(o, outer) {
        real sum = 0;
        THREADS(i, n) sum += x[o * n + i];
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) y[o] = scale * sum;
    }
}

/* y = scale Σ x, one thread a column, 128 numbers at a time lest the error grow with n */
KERNEL sum_columns(const real *x, real *y, i64 outer, i64 n, i64 inner, real scale) {
    STRIDED(k, outer * inner) {
        const real *column = x + k / inner * n * inner + k % inner;
        real total = 0;
        for (i64 start = 0; start < n; start += 128) {
            real part = 0;
            for (i64 i = start; i < n && i < start + 128; i++) part += column[i * inner];
            total += part;
        }
        y[k] = scale * total;
    }
}

KERNEL sum_over_backward(const real *dy, real *dx, i64 size, i64 n, i64 inner, real scale) {
    STRIDED(k, size) dx[k] = scale * dy[k / inner / n * inner + k % inner];
}

/* The first greatest of sign x, NaN above all */
__device__ inline i64 extreme_place(const real *column, i64 n, i64 inner, i64 sign) {
    real best = sign * column[0];
    i64 place = 0;
    for (i64 i = 1; i < n; i++) {
        real v = sign * column[i * inner];
        if (v > best || (v != v && best == best)) {
            best = v;
            place = i;
        }
    }
    return place;
}

KERNEL extreme_over(const real *x, real *y, i64 outer, i64 n, i64 inner, i64 sign) {
    STRIDED(k, outer * inner) {
        const real *column = x + k / inner * n * inner + k % inner;
        y[k] = column[extreme_place(column, n, inner, sign) * inner];
    }
}

KERNEL extreme_over_backward(const real *x, const real *dy, real *dx, i64 outer, i64 n, i64 inner,
                             i64 sign) {
    STRIDED(k, outer * inner) {
        i64 first = k / inner * n * inner + k % inner;
        i64 place = extreme_place(x + first, n, inner, sign);
        for (i64 i = 0; i < n; i++) dx[first + i * inner] = i == place ? dy[k] : 0;
    }
}
