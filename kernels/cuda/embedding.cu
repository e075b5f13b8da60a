/* Rows of a table, looked up by their numbers. */
#include "kernel.h"

/* y[i] = w[x[i]], rows of d numbers */
KERNEL embedding(const real *w, const i64 *x, real *y, i64 size, i64 d) {
    STRIDED(i, size) y[i] = w[x[i / d] * d + i % d];
}

/* dw[rows[r]] += Σ dy over the row's places, in their order; size = rows times d */
KERNEL embedding_backward(const real *dy, const i64 *places, const i64 *begins, const i64 *rows,
                          real *dw, i64 size, i64 d, i64 by_frequency) {
    STRIDED(i, size) {
        i64 r = i / d, j = i % d;
        real sum = 0;
        for (i64 at = begins[r]; at < begins[r + 1]; at++) sum += dy[places[at] * d + j];
        dw[rows[r] * d + j] += by_frequency ? sum / (real)(begins[r + 1] - begins[r]) : sum;
    }
}
