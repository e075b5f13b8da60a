/* Convolution as a product of matrices, of which one is gathered from the image: see conv.py.

   pixels   y = filter (k, c p q) times image (c p q, n oh ow): the columns are the pixels of y, the
            depths the taps, that is the values of a filter. Also the gradient at x, where the
            pixels are those of x and the values are gathered from dy.
   points   the same where a filter is one tap that touches all values in order: they are loaded
            four at a time.
   taps     dfilter = dy (k, n oh ow) times image (n oh ow, c p q): columns and depths exchanged.

   Value (tap, pixel) lies at the sum of their offsets. It is outside of the image, or between its
   values when these have strides, if the tap has a bit in common with the pixel: each has a bit
   for every row and every column of the window; the tap those it is in, the pixel those that miss
   the image. */
#include "product.h"

#define BEYOND (1ull << 63) /* the bit of all pixels, and of taps after the last */

/* The sizes of the product; where a lies (the numbers of Matrix); the image, h x w values with
   strides; how the pixels p_... step through it; the taps; and where y lies: column c of row r of
   a group at c / y_inner * y_outer + c % y_inner + r * y_row from y_first on. */
struct Convolution {
    i64 groups, rows, columns, depth, size;
    i64 a_group, a_row, a_inner, a_outer, a_step, a_order;
    i64 image_group, h, w, stride_h, stride_w;
    i64 p_h, p_w, p_outer, p_step_h, p_start_h, p_step_w, p_start_w;
    i64 tap_h, tap_w, tap_outer, tap_step_h, tap_step_w;
    i64 y_group, y_row, y_inner, y_outer, y_first, y_fours;
};

/* The place of a tap or a pixel: bytes from the first value, and bits. */
struct Place {
    i64 offset;
    unsigned long long bits;
};

__device__ inline Place pixel(const Convolution &g, i64 i, i64 end) {
    if (i >= end) return Place{0, ~0ull};
    int stride_h = (int)g.stride_h, stride_w = (int)g.stride_w;
    int y = (int)(i / g.p_w % g.p_h * g.p_step_h + g.p_start_h);
    int x = (int)(i % g.p_w * g.p_step_w + g.p_start_w);
    unsigned long long bits = BEYOND, bit = 1;
    for (int tap = 0; tap < g.tap_h; tap++, bit <<= 1) {
        int to = y + tap * (int)g.tap_step_h;
        if (to < 0 || to % stride_h || to / stride_h >= g.h) bits |= bit;
    }
    for (int tap = 0; tap < g.tap_w; tap++, bit <<= 1) {
        int to = x + tap * (int)g.tap_step_w;
        if (to < 0 || to % stride_w || to / stride_w >= g.w) bits |= bit;
    }
    i64 offset = i / (g.p_h * g.p_w) * g.p_outer + y / stride_h * g.w + x / stride_w;
    return Place{offset * (i64)sizeof(real), bits};
}

__device__ inline Place tap(const Convolution &g, i64 i, i64 end) {
    if (i >= end) return Place{0, BEYOND};
    int y = (int)(i / g.tap_w % g.tap_h), x = (int)(i % g.tap_w);
    i64 down = y * (int)g.tap_step_h / (int)g.stride_h;
    i64 right = x * (int)g.tap_step_w / (int)g.stride_w;
    i64 offset = i / (g.tap_h * g.tap_w) * g.tap_outer + down * g.w + right;
    return Place{offset * (i64)sizeof(real), 1ull << y | 1ull << (g.tap_h + x)};
}

/* What the depths of a product are, and how a worker's values lie */
enum Depths { TAPS, POINTS, PIXELS };

/* WIDE columns of the values of an image */
template <int WIDE, int TEAM, int DEPTHS> struct Gathered {
    const real *x;
    const Convolution &g;
    const Place *columns; /* of the tile, shared */
    Place *depths;        /* AHEAD, shared */

    __device__ void prepare(i64 k, i64 to) {
        THREADS(i, AHEAD) depths[i] = DEPTHS == PIXELS ? pixel(g, k + i, to) : tap(g, k + i, to);
    }

    /* The column and the depth of a worker's value number i, or of the first of its four: the team
       takes columns side by side, or (PIXELS) depths. Few of the places differ from i to i. */
    static const int WIDTH = DEPTHS == PIXELS ? DEPTH : DEPTHS == POINTS ? WIDE / 4 : WIDE;
    static const int TURNS = (WIDTH + TEAM - 1) / TEAM; /* until all of a width are taken */
    __device__ static int beside(int worker, int i) {
        return TURNS == 1 ? worker % WIDTH : worker + i % TURNS * TEAM;
    }
    __device__ static int below(int worker, int i) {
        return TURNS == 1 ? worker / WIDTH + i * (TEAM / WIDTH) : i / TURNS;
    }
    __device__ static int column(int worker, int i) {
        if (DEPTHS == PIXELS) return below(worker, i);
        return beside(worker, i) * (DEPTHS == POINTS ? 4 : 1);
    }
    __device__ static int depth(int worker, int i) {
        return DEPTHS == PIXELS ? beside(worker, i) : below(worker, i);
    }

    __device__ void fetch(u32 worker, int k, real *held) const {
        if (DEPTHS == POINTS) {
            UNROLL for (int i = 0; i < WIDE * DEPTH / TEAM / 4; i++) {
                Place c = columns[column(worker, i)], d = depths[k + depth(worker, i)];
                Four four = {};
                if (!(c.bits & d.bits)) four = *(const Four *)at(x, c.offset + d.offset);
                UNROLL for (int j = 0; j < 4; j++) held[4 * i + j] = four.v[j];
            }
        } else {
            UNROLL for (int i = 0; i < WIDE * DEPTH / TEAM; i++) {
                Place c = columns[column(worker, i)], d = depths[k + depth(worker, i)];
                held[i] = c.bits & d.bits ? 0 : *at(x, c.offset + d.offset);
            }
        }
    }

    __device__ void write(u32 worker, const real *held, real (*part)[WIDE + 4]) const {
        if (DEPTHS == POINTS) {
            UNROLL for (int i = 0; i < WIDE * DEPTH / TEAM / 4; i++, held += 4)
                *(Four *)&part[depth(worker, i)][column(worker, i)] =
                    Four{{held[0], held[1], held[2], held[3]}};
        } else {
            UNROLL for (int i = 0; i < WIDE * DEPTH / TEAM; i++)
                part[depth(worker, i)][column(worker, i)] = held[i];
        }
    }
};

/* A block's shared memory: that of the product, and the places of the tile's columns in y */
template <int ROWS, int COLUMNS> struct Shared {
    Space<ROWS, COLUMNS> space;
    Place depths[AHEAD], columns[COLUMNS];
    i64 results[COLUMNS]; /* -1 after the last */
};

/* y = clamp(a times the gathered image + b + other, low, high); b (a value a row of each group) and
   other (as y) may be null, other may be y. With several parts, parts of the depth: y (parts, size)
   are the products over these. */
template <int DEPTHS, int A_ORDER, int ROWS, int COLUMNS>
__device__ inline void multiply(Shared<ROWS, COLUMNS> &shared, const real *a, const real *image,
                                const real *b, const real *other, real *y, const Convolution &g,
                                i64 parts, real low, real high) {
    typedef Tile<ROWS, COLUMNS> Tiles;
    typename Tiles::Member mine[PLAYED(Tiles::team)];
    i64 down = (g.rows + ROWS - 1) / ROWS, across = (g.columns + COLUMNS - 1) / COLUMNS;
    i64 each = ((g.depth + parts - 1) / parts + DEPTH - 1) / DEPTH * DEPTH;
    bool fours = g.y_fours && aligned(y) && aligned(other);
    BLOCKS(tile, down * across * parts * g.groups) {
        i64 row = tile % down * ROWS, column = tile / down % across * COLUMNS;
        i64 part = tile / (down * across) % parts, group = tile / (down * across * parts);
        i64 from = part * each, to = from + each < g.depth ? from + each : g.depth;
        THREADS(i, COLUMNS) {
            i64 c = column + i;
            shared.columns[i] = DEPTHS == PIXELS ? tap(g, c, g.columns) : pixel(g, c, g.columns);
            shared.results[i] = c < g.columns ? c / g.y_inner * g.y_outer + c % g.y_inner : -1;
        }
        BARRIER; /* a part may have no depths, and then none in the product */
        Matrix<ROWS, Tiles::team, A_ORDER> left = {
            a + group * g.a_group + row * g.a_row, g.rows - row, g.a_row,
            g.a_inner, g.a_outer, g.a_step, shared.space.a_offsets};
        Gathered<COLUMNS, Tiles::team, DEPTHS> right = {image + group * g.image_group, g,
                                                        shared.columns, shared.depths};
        Tiles::product(left, right, from, to, shared.space, mine);
        WORKERS(worker, Tiles::team)
            UNROLL for (int i = 0; i < EACH; i++) {
                i64 r = row + Tiles::row(worker) + i / 4 * 16 + i % 4;
                if (r >= g.rows) continue;
                real bias = b ? b[group * g.rows + r] : 0;
                i64 start = part * g.size + g.y_first + group * g.y_group + r * g.y_row;
                UNROLL for (int half = 0; half < 2; half++) {
                    int c = Tiles::column(worker) + 32 * half;
                    const real *sum = &mine[OWN(worker)].sum[i][4 * half];
                    if (fours && shared.results[c] >= 0) {
                        i64 at = start + shared.results[c];
                        Four four = {};
                        if (other) four = *(const Four *)(other + at);
                        UNROLL for (int j = 0; j < 4; j++) {
                            real v = sum[j] + bias + four.v[j];
                            four.v[j] = v < low ? low : v > high ? high : v;
                        }
                        *(Four *)(y + at) = four;
                    } else {
                        UNROLL for (int j = 0; j < 4; j++) {
                            i64 at = start + shared.results[c + j];
                            if (shared.results[c + j] < 0) continue;
                            real v = sum[j] + bias + (other ? other[at] : 0);
                            y[at] = v < low ? low : v > high ? high : v;
                        }
                    }
                }
            }
        BARRIER;
    }
}

template <int DEPTHS, int ROWS, int COLUMNS>
__device__ inline void product(Shared<ROWS, COLUMNS> &shared, const real *a, const real *image,
                               const real *b, const real *other, real *y, const Convolution &g,
                               i64 parts, real low, real high) {
    if (g.a_order == ALONG && aligned(a))
        multiply<DEPTHS, ALONG>(shared, a, image, b, other, y, g, parts, low, high);
    else if (g.a_order == ACROSS && aligned(a) && DEPTHS == POINTS)
        multiply<DEPTHS, ACROSS>(shared, a, image, b, other, y, g, parts, low, high);
    else
        multiply<DEPTHS, ANY>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(256, 2) conv2d_pixels_128x128(const real *a, const real *image, const real *b,
                                        const real *other, real *y, struct Convolution g, i64 parts,
                                        real low, real high) {
    SHARED Shared<128, 128> shared;
    product<TAPS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(128, 3) conv2d_pixels_64x128(const real *a, const real *image, const real *b,
                                       const real *other, real *y, struct Convolution g, i64 parts,
                                       real low, real high) {
    SHARED Shared<64, 128> shared;
    product<TAPS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(64, 6) conv2d_pixels_32x128(const real *a, const real *image, const real *b,
                                      const real *other, real *y, struct Convolution g, i64 parts,
                                      real low, real high) {
    SHARED Shared<32, 128> shared;
    product<TAPS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(64, 6) conv2d_pixels_64x64(const real *a, const real *image, const real *b,
                                     const real *other, real *y, struct Convolution g, i64 parts,
                                     real low, real high) {
    SHARED Shared<64, 64> shared;
    product<TAPS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(256, 2) conv2d_points_128x128(const real *a, const real *image, const real *b,
                                        const real *other, real *y, struct Convolution g, i64 parts,
                                        real low, real high) {
    SHARED Shared<128, 128> shared;
    product<POINTS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(128, 3) conv2d_points_64x128(const real *a, const real *image, const real *b,
                                       const real *other, real *y, struct Convolution g, i64 parts,
                                       real low, real high) {
    SHARED Shared<64, 128> shared;
    product<POINTS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(64, 6) conv2d_points_32x128(const real *a, const real *image, const real *b,
                                      const real *other, real *y, struct Convolution g, i64 parts,
                                      real low, real high) {
    SHARED Shared<32, 128> shared;
    product<POINTS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(64, 6) conv2d_points_64x64(const real *a, const real *image, const real *b,
                                     const real *other, real *y, struct Convolution g, i64 parts,
                                     real low, real high) {
    SHARED Shared<64, 64> shared;
    product<POINTS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(256, 2) conv2d_taps_128x128(const real *a, const real *image, const real *b,
                                      const real *other, real *y, struct Convolution g, i64 parts,
                                      real low, real high) {
    SHARED Shared<128, 128> shared;
    product<PIXELS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(128, 3) conv2d_taps_64x128(const real *a, const real *image, const real *b,
                                     const real *other, real *y, struct Convolution g, i64 parts,
                                     real low, real high) {
    SHARED Shared<64, 128> shared;
    product<PIXELS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(64, 6) conv2d_taps_32x128(const real *a, const real *image, const real *b,
                                    const real *other, real *y, struct Convolution g, i64 parts,
                                    real low, real high) {
    SHARED Shared<32, 128> shared;
    product<PIXELS>(shared, a, image, b, other, y, g, parts, low, high);
}

KERNEL_OF(64, 6) conv2d_taps_64x64(const real *a, const real *image, const real *b,
                                   const real *other, real *y, struct Convolution g, i64 parts,
                                   real low, real high) {
    SHARED Shared<64, 64> shared;
    product<PIXELS>(shared, a, image, b, other, y, g, parts, low, high);
}
