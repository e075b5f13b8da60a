/* The logarithm of a sum of exponentials, as softmax and the losses of its logarithm take it. */

#ifndef FLAMBEAU_SOFTMAX_H
#define FLAMBEAU_SOFTMAX_H

#include "kernel.h"

/* log Σ exp x = greatest + rest, apart: beside a large greatest their sum would lose the rest. */
struct LogSum {
    real greatest, rest;
};

/* That of one row, whose values are `inner` apart, by all threads of the block. */
__device__ inline LogSum log_sum(const real *x, i64 count, i64 inner, real *shared) {
    real greatest = -INFINITY, sum = 0;
    THREADS(i, count) greatest = fmax(greatest, x[i * inner]);
    greatest = block_max(greatest, shared);
    THREADS(i, count) sum += exp(x[i * inner] - greatest);
    sum = block_sum(sum, shared);
    return {greatest, log(sum)};
}

/* log softmax of one value of the row */
__device__ inline real log_share(real x, LogSum total) { return x - total.greatest - total.rest; }

#endif
