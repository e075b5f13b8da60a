/* Sums of columns; the products of linear layers are in product.cu. */
#include "kernel.h"

/* parts (count, columns) = Σ x over the rows from rows p / count to rows (p + 1) / count of part p:
   x (rows, columns), one thread a column of a part */
KERNEL column_sums(const real *x, real *parts, i64 rows, i64 columns, i64 count) {
    STRIDED(i, columns * count) {
        i64 j = i % columns, row = i / columns * rows / count;
        real sum = 0;
        for (i64 end = (i / columns + 1) * rows / count; row < end; row++)
            sum += x[row * columns + j];
        parts[i] = sum;
    }
}
