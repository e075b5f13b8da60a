/* Products of two matrices, and the sums of their parts. */
#include "product.h"

/* a (m, depth) and b (depth, n) with the strides am, ak and bk, bn; a_order and b_order say how
   their values lie: both ANY, or neither. */
struct Product {
    i64 m, n, depth, am, ak, bk, bn, a_order, b_order;
};

/* y (m, n) = a b + bias + other, bias (n,) and other (m, n) may be null, other may be y. With
   several parts, parts of the depth: y (parts, m, n) are the products over these. */
template <int A_ORDER, int B_ORDER, int ROWS, int COLUMNS>
__device__ inline void multiply(Space<ROWS, COLUMNS> &space, const real *a, const real *b,
                                const real *bias, const real *other, real *y, const Product &g,
                                i64 parts) {
    typedef Tile<ROWS, COLUMNS> Tiles;
    typename Tiles::Member mine[PLAYED(Tiles::team)];
    i64 down = (g.m + ROWS - 1) / ROWS, across = (g.n + COLUMNS - 1) / COLUMNS;
    i64 each = ((g.depth + parts - 1) / parts + DEPTH - 1) / DEPTH * DEPTH;
    bool fours = g.n % 4 == 0 && aligned(y) && aligned(other);
    BLOCKS(tile, down * across * parts) {
        i64 row = tile % down * ROWS, column = tile / down % across * COLUMNS;
        i64 part = tile / (down * across), from = part * each;
        i64 to = from + each < g.depth ? from + each : g.depth;
        Matrix<ROWS, Tiles::team, A_ORDER> left = {
            a + row * g.am, g.m - row, g.am, g.depth, 0, g.ak, space.a_offsets};
        Matrix<COLUMNS, Tiles::team, B_ORDER> right = {
            b + column * g.bn, g.n - column, g.bn, g.depth, 0, g.bk, space.b_offsets};
        Tiles::product(left, right, from, to, space, mine);
        WORKERS(worker, Tiles::team)
            UNROLL for (int i = 0; i < EACH; i++) {
                i64 r = row + Tiles::row(worker) + i / 4 * 16 + i % 4;
                if (r >= g.m) continue;
                UNROLL for (int half = 0; half < 2; half++) {
                    i64 c = column + Tiles::column(worker) + 32 * half;
                    i64 at = (part * g.m + r) * g.n + c;
                    const real *sum = &mine[OWN(worker)].sum[i][4 * half];
                    if (fours && c < g.n) {
                        Four four = {}, more = {};
                        if (other) more = *(const Four *)(other + at);
                        UNROLL for (int j = 0; j < 4; j++)
                            four.v[j] = sum[j] + more.v[j] + (bias ? bias[c + j] : 0);
                        *(Four *)(y + at) = four;
                    } else {
                        UNROLL for (int j = 0; j < 4; j++)
                            if (c + j < g.n)
                                y[at + j] = sum[j] + (bias ? bias[c + j] : 0) +
                                            (other ? other[at + j] : 0);
                    }
                }
            }
    }
}

template <int ROWS, int COLUMNS>
__device__ inline void product(Space<ROWS, COLUMNS> &space, const real *a, const real *b,
                               const real *bias, const real *other, real *y, const Product &g,
                               i64 parts) {
    if (g.a_order == ANY || !aligned(a) || !aligned(b))
        multiply<ANY, ANY>(space, a, b, bias, other, y, g, parts);
    else if (g.a_order == ACROSS)
        multiply<ACROSS, ACROSS>(space, a, b, bias, other, y, g, parts);
    else if (g.b_order == ACROSS)
        multiply<ALONG, ACROSS>(space, a, b, bias, other, y, g, parts);
    else
        multiply<ALONG, ALONG>(space, a, b, bias, other, y, g, parts);
}

KERNEL_OF(256, 2) product_128x128(const real *a, const real *b, const real *bias,
                                  const real *other, real *y, struct Product g, i64 parts) {
    SHARED Space<128, 128> space;
    product(space, a, b, bias, other, y, g, parts);
}

KERNEL_OF(128, 3) product_64x128(const real *a, const real *b, const real *bias,
                                 const real *other, real *y, struct Product g, i64 parts) {
    SHARED Space<64, 128> space;
    product(space, a, b, bias, other, y, g, parts);
}

KERNEL_OF(64, 6) product_32x128(const real *a, const real *b, const real *bias,
                                const real *other, real *y, struct Product g, i64 parts) {
    SHARED Space<32, 128> space;
    product(space, a, b, bias, other, y, g, parts);
}

KERNEL_OF(64, 6) product_64x64(const real *a, const real *b, const real *bias,
                               const real *other, real *y, struct Product g, i64 parts) {
    SHARED Space<64, 64> space;
    product(space, a, b, bias, other, y, g, parts);
}

/* y = clamp(Σ parts + b[channel] + other, low, high): parts (count, n, channels, inner), b and other
   may be null, other may be y. Image i is at first + i outer in y and in other. */
KERNEL join(const real *parts, const real *b, const real *other, real *y, i64 size, i64 count,
            i64 channels, i64 inner, i64 first, i64 outer, real low, real high) {
    i64 image = channels * inner;
    STRIDED(i, size) {
        i64 at = outer == image ? i : i / image * outer + i % image + first;
        real sum = (b ? b[i / inner % channels] : 0) + (other ? other[at] : 0);
        for (i64 part = 0; part < count; part++) sum += parts[part * size + i];
        y[at] = sum < low ? low : sum > high ? high : sum;
    }
}
