/* Sums of columns; the products of linear layers are in product.cu. */
#include "kernel.h"

/* y[j] += Σ x[:, j]: x (rows, columns), one block a column */
KERNEL column_sums(const real *x, real *y, i64 rows, i64 columns) {
    SHARED real shared[BLOCK];
    BLOCKS(j, columns) {
        real sum = 0;
        THREADS(i, rows) sum += x[i * columns + j];
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) y[j] += sum;
    }
}
