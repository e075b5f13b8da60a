/* Matrix products and sums of columns. */
#include "kernel.h"

#define TILE 64  /* a block's part of y is TILE x TILE */
#define DEPTH 16 /* columns of a, rows of b in shared memory at a time */
#define EACH 4   /* a thread's part of it is EACH x EACH, SIDE apart */
#define SIDE (TILE / EACH)

/* One tile of a (rows, depth) in shared memory, transposed: part[k][r]; zeros outside. Neighbouring
   threads read neighbouring elements: along k where that stride is 1, else along r. */
__device__ inline void load(const real *a, real (*part)[TILE + 1], i64 row, i64 rows, i64 k0,
                            i64 depth, i64 row_stride, i64 k_stride) {
    THREADS(e, TILE * DEPTH) {
        i64 r = k_stride == 1 ? e / DEPTH : e % TILE;
        i64 k = k_stride == 1 ? e % DEPTH : e / TILE;
        bool inside = row + r < rows && k0 + k < depth;
        part[k][r] = inside ? a[(row + r) * row_stride + (k0 + k) * k_stride] : 0;
    }
}

/* y = a b + bias, or y += a b (add): a (m, depth), b (depth, n), y (m, n) in C order, bias (n,) or
   null; am, ak, bk, bn are the strides of a and b. One block a tile of y. */
KERNEL product(const real *a, const real *b, const real *bias, real *y, i64 m, i64 n, i64 depth,
               i64 am, i64 ak, i64 bk, i64 bn, i64 add) {
    SHARED real part_a[DEPTH][TILE + 1];
    SHARED real part_b[DEPTH][TILE + 1];
    i64 across = (n + TILE - 1) / TILE, down = (m + TILE - 1) / TILE;
    BLOCKS(tile, across * down) {
        i64 row = tile / across * TILE, column = tile % across * TILE;
        /* With fewer than SIDE * SIDE threads a block takes several passes over its tile. */
        for (u32 pass = 0; pass < SIDE * SIDE; pass += blockDim.x) {
            u32 r = (pass + threadIdx.x) / SIDE, c = (pass + threadIdx.x) % SIDE;
            bool busy = r < SIDE;
            real sum[EACH][EACH] = {};
            for (i64 k0 = 0; k0 < depth; k0 += DEPTH) {
                load(a, part_a, row, m, k0, depth, am, ak);
                load(b, part_b, column, n, k0, depth, bn, bk);
                BARRIER;
                if (busy)
                    for (int k = 0; k < DEPTH; k++)
                        for (int i = 0; i < EACH; i++)
                            for (int j = 0; j < EACH; j++)
                                sum[i][j] += part_a[k][r + i * SIDE] * part_b[k][c + j * SIDE];
                BARRIER;
            }
            if (!busy) continue;
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) {
                    i64 y_row = row + r + i * SIDE, y_column = column + c + j * SIDE;
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
