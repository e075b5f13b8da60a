/* Matrix products and sums of columns. */
#include "product.h"

/* TILE rows of a matrix from `row` on: the strides are those of a row and of a depth. */
struct Rows {
    const real *x;
    i64 row, rows, row_stride, depth_stride, first, end;
    bool along_depth;

    __device__ void prepare(i64 k0, i64 to) {
        first = k0;
        end = to;
    }
    __device__ real at(i64 r, i64 k) const {
        bool inside = row + r < rows && first + k < end;
        return inside ? x[(row + r) * row_stride + (first + k) * depth_stride] : 0;
    }
};

/* y = a b + bias, or y += a b (add): a (m, depth), b (depth, n), y (m, n) in C order, bias (n,) or
   null; am, ak, bk, bn are the strides of a and b. One block a tile of y. */
KERNEL product(const real *a, const real *b, const real *bias, real *y, i64 m, i64 n, i64 depth,
               i64 am, i64 ak, i64 bk, i64 bn, i64 add) {
    SHARED Part part_a;
    SHARED Part part_b;
    i64 across = (n + TILE - 1) / TILE, down = (m + TILE - 1) / TILE;
    BLOCKS(tile, across * down) {
        i64 row = tile / across * TILE, column = tile % across * TILE;
        Rows left = {a, row, m, am, ak, 0, 0, ak == 1}, right = {b, column, n, bn, bk, 0, 0, bk == 1};
        for (u32 pass = 0; pass < PASSES; pass += blockDim.x) {
            Seat at = seat(pass);
            real sum[EACH][EACH] = {};
            add_product(left, right, 0, depth, at, sum, part_a, part_b);
            if (!at.busy) continue;
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) {
                    i64 y_row = row + at.row + i * SIDE, y_column = column + at.column + j * SIDE;
                    if (y_row >= m || y_column >= n) continue;
                    real *out = y + y_row * n + y_column;
                    *out = sum[i][j] + (add ? *out : bias ? bias[y_column] : 0);
                }
        }
    }
}

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
