/* Matrix products, a tile of the result at a time, in shared memory. */

#ifndef FLAMBEAU_PRODUCT_H
#define FLAMBEAU_PRODUCT_H

#include "kernel.h"

#define TILE 64  /* a block's tile of the result is TILE x TILE */
#define DEPTH 16 /* columns of a and rows of b in shared memory at a time */
#define EACH 4   /* a thread's part of the tile is EACH x EACH values, SIDE apart */
#define SIDE (TILE / EACH)

typedef real Part[DEPTH][TILE + 1]; /* one column more: no two rows in one bank */

/* A thread's place in a tile. With fewer than SIDE x SIDE threads a block takes several passes,
   and with more some threads only load:  for (u32 pass = 0; pass < PASSES; pass += blockDim.x) */
#define PASSES (SIDE * SIDE)
struct Seat {
    u32 row, column;
    bool busy;
};

__device__ inline Seat seat(u32 pass) {
    u32 number = pass + threadIdx.x;
    return Seat{number / SIDE, number % SIDE, number < PASSES};
}

/* sum += a thread's part of a b over the depths from ... to. A factor has prepare(k0, to), which
   all threads call before the depths from k0 are loaded, at(r, k), its value in row (or column) r
   of the tile at depth k0 + k, and along_depth: depths, not rows, lie beside each other. */
template <typename A, typename B>
__device__ inline void add_product(A &a, B &b, i64 from, i64 to, Seat seat, real (*sum)[EACH],
                                   real (*part_a)[TILE + 1], real (*part_b)[TILE + 1]) {
    for (i64 k0 = from; k0 < to; k0 += DEPTH) {
        a.prepare(k0, to);
        b.prepare(k0, to);
        BARRIER;
        THREADS(e, TILE * DEPTH) {
            i64 r = a.along_depth ? e / DEPTH : e % TILE, k = a.along_depth ? e % DEPTH : e / TILE;
            part_a[k][r] = a.at(r, k);
        }
        THREADS(e, TILE * DEPTH) {
            i64 r = b.along_depth ? e / DEPTH : e % TILE, k = b.along_depth ? e % DEPTH : e / TILE;
            part_b[k][r] = b.at(r, k);
        }
        BARRIER;
        if (!seat.busy) continue;
        for (int k = 0; k < DEPTH; k++)
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++)
                    sum[i][j] += part_a[k][seat.row + i * SIDE] * part_b[k][seat.column + j * SIDE];
    }
}

#endif
