/* Products of two matrices: a block's tile of the result, from parts of both in shared memory. */

#ifndef FLAMBEAU_PRODUCT_H
#define FLAMBEAU_PRODUCT_H

#include "kernel.h"

#define EACH 8    /* a worker owns EACH x EACH values of a tile: four squares of 4 x 4 */
#define DEPTH 8   /* columns of a and rows of b that are multiplied between two barriers */
#define AHEAD 256 /* depths whose places are known in advance */

/* What lies so many bytes from x: offsets are kept in bytes, where they are added to often. */
__device__ inline const real *at(const real *x, i64 bytes) {
    return (const real *)((const char *)x + bytes);
}

/* A block's shared memory. One half of a and b is read while the other is written. Rows are four
   longer than they must be: what the threads of a warp write lies in different banks. */
template <int ROWS, int COLUMNS> struct Space {
    alignas(16) real a[2][DEPTH][ROWS + 4];
    alignas(16) real b[2][DEPTH][COLUMNS + 4];
    i64 a_offsets[AHEAD], b_offsets[AHEAD];
};

/* A worker's values: its part of the tile, and what it has loaded and not yet written. */
template <int A, int B> struct Worker {
    real sum[EACH][EACH];
    real a[A], b[B];
};

/* A tile and its team. The 32 workers of a warp own 32 rows by 64 columns, so that each of their
   four loads a depth takes one turn of the shared memory. */
template <int ROWS, int COLUMNS> struct Tile {
    static const int team = ROWS * COLUMNS / (EACH * EACH);
    static const int a_share = ROWS * DEPTH / team, b_share = COLUMNS * DEPTH / team;
    typedef Worker<a_share, b_share> Member;

    /* A worker's first row and column; four follow beside each, and four 16 or 32 further on */
    __device__ static u32 row(u32 worker) {
        return worker / 32 / (COLUMNS / 64) * 32 + worker % 32 / 8 * 4;
    }
    __device__ static u32 column(u32 worker) {
        return worker / 32 % (COLUMNS / 64) * 64 + worker % 8 * 4;
    }

    /* sum += a worker's part of a b */
    __device__ static void multiply(const real (*a)[ROWS + 4], const real (*b)[COLUMNS + 4],
                                    u32 worker, real (*sum)[EACH]) {
        UNROLL for (int k = 0; k < DEPTH; k++) {
            Four left[2], right[2];
            UNROLL for (int half = 0; half < 2; half++) {
                left[half] = *(const Four *)&a[k][row(worker) + 16 * half];
                right[half] = *(const Four *)&b[k][column(worker) + 32 * half];
            }
            UNROLL for (int i = 0; i < EACH; i++)
                UNROLL for (int j = 0; j < EACH; j++)
                    sum[i][j] += left[i / 4].v[i % 4] * right[j / 4].v[j % 4];
        }
    }

    /* The sums of the members are a b over the depths from ... to. A factor has prepare(k, to),
       which all threads call before the AHEAD depths from k are fetched; fetch(worker, k, held),
       the worker's share of the DEPTH depths from the k-th prepared one; and write(worker, held,
       part), which puts it into shared memory. What comes next is fetched before the arithmetic
       and written after it. */
    template <typename A, typename B>
    __device__ static void product(A &a, B &b, i64 from, i64 to, Space<ROWS, COLUMNS> &space,
                                   Member *mine) {
        WORKERS(worker, team)
            UNROLL for (int i = 0; i < EACH * EACH; i++)
                mine[OWN(worker)].sum[i / EACH][i % EACH] = 0;
        for (; from < to; from += AHEAD) {
            int end = (int)(to - from < AHEAD ? to - from : AHEAD);
            a.prepare(from, to);
            b.prepare(from, to);
            BARRIER;
            for (int now = -DEPTH, half = 1; now < end; now += DEPTH, half = 1 - half) {
                bool more = now + DEPTH < end;
                WORKERS(worker, team) {
                    Member &me = mine[OWN(worker)];
                    if (more) {
                        a.fetch(worker, now + DEPTH, me.a);
                        b.fetch(worker, now + DEPTH, me.b);
                    }
                    if (now >= 0) multiply(space.a[half], space.b[half], worker, me.sum);
                    if (more) {
                        a.write(worker, me.a, space.a[1 - half]);
                        b.write(worker, me.b, space.b[1 - half]);
                    }
                }
                BARRIER;
            }
        }
    }
};

/* How a factor's values lie: four beside each other in depth, or four in rows beside each other,
   which are loaded at once, or in any way. */
enum Order { ALONG, ACROSS, ANY };

/* WIDE rows of a matrix, or columns: depth k lies k / inner * outer + k % inner * step from the
   first. */
template <int WIDE, int TEAM, int ORDER> struct Matrix {
    const real *x; /* the first row of the tile */
    i64 rows;      /* that there are from it on */
    i64 row_step, inner, outer, step;
    i64 *offsets; /* of AHEAD depths, shared; -1 after the last */

    __device__ void prepare(i64 k, i64 to) {
        THREADS(i, AHEAD)
            offsets[i] = k + i < to ? (i64)sizeof(real) * ((k + i) / inner * outer +
                                                           (k + i) % inner * step)
                                    : -1;
    }

    /* The row and the depth of the first of four values, of all those of the tile the `at`-th */
    __device__ static int row(int at) {
        return ORDER == ACROSS ? at % (WIDE / 4) * 4 : at / (DEPTH / 4);
    }
    __device__ static int depth(int at) {
        return ORDER == ACROSS ? at / (WIDE / 4) : at % (DEPTH / 4) * 4;
    }

    __device__ void fetch(u32 worker, int k, real *held) const {
        UNROLL for (int i = 0; i < WIDE * DEPTH / TEAM / 4; i++, held += 4) {
            int r = row(worker + i * TEAM), d = k + depth(worker + i * TEAM);
            const real *from = x + r * row_step;
            UNROLL for (int j = 0; j < 4; j++) held[j] = 0;
            if (r >= rows) continue;
            if (ORDER == ANY) {
                UNROLL for (int j = 0; j < 4; j++)
                    if (offsets[d + j] >= 0) held[j] = *at(from, offsets[d + j]);
            } else if (offsets[d] >= 0) {
                Four four = *(const Four *)at(from, offsets[d]);
                UNROLL for (int j = 0; j < 4; j++) held[j] = four.v[j];
            }
        }
    }

    __device__ void write(u32 worker, const real *held, real (*part)[WIDE + 4]) const {
        UNROLL for (int i = 0; i < WIDE * DEPTH / TEAM / 4; i++, held += 4) {
            int r = row(worker + i * TEAM), d = depth(worker + i * TEAM);
            if (ORDER == ACROSS)
                *(Four *)&part[d][r] = Four{{held[0], held[1], held[2], held[3]}};
            else
                UNROLL for (int j = 0; j < 4; j++) part[d + j][r] = held[j];
        }
    }
};

#endif
