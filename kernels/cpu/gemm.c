/* Matrix products from packed panels: the arithmetic under convolutions.

   C = A B is cut into tiles of TILE_ROWS x TILE_COLUMNS that stay in registers. The left factor is
   packed as panels [depth][LEFT_PITCH], one number for each row of the tile, and the right factor
   as panels [depth][TILE_COLUMNS], so that the innermost loop reads both from front to back.
   Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, 2008. */
#include "multiply.h"
#include "transpose.h"

#if VECTOR_BYTES == 64
enum { TILE_ROWS = 14 }; /* 28 sums, 2 right vectors and a broadcast in 32 registers */
#define EACH_HEIGHT(CASE)                                                  \
  CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) \
  CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#else
enum { TILE_ROWS = 6 }; /* 12 sums, 2 right vectors and a broadcast in 16 registers */
#define EACH_HEIGHT(CASE) CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#endif
enum { TILE_COLUMNS = 2 * LANES, LEFT_PITCH = (TILE_ROWS + LANES - 1) / LANES * LANES };

/* Element (i, j) stands at at[i * row + j * column]; swap the strides to transpose. */
struct matrix {
  const real *at;
  i64 row, column;
};

/* What is added to a tile's product: what C holds, or else one number a row or one a column (NULL:
   none). next: what will be read after this tile, fetched meanwhile, or NULL. */
struct start {
  int add;
  const real *bias, *across, *next;
};

INLINE i64 pieces(i64 n, i64 size) { return (n + size - 1) / size; }

/* The compiler would keep an address for every step: with one it cannot see through it does not. */
#if defined(__GNUC__)
#define HIDDEN(pointer) __asm__("" : "+r"(pointer))
#else
#define HIDDEN(pointer)
#endif

/* Fetch so many numbers' lines into the second-level cache. */
INLINE void fetch(const real *p, const int count) {
#pragma GCC unroll 4
  for (int i = 0; i < count; i += 64 / (int)sizeof(real)) __builtin_prefetch(p + i, 0, 2);
}

/* sum += a b for `count` steps, written out */
INLINE void tile_steps(const i64 rows, const i64 vectors, const i64 count, const real *a,
                       const real *b, vec sum[][2]) {
#pragma GCC unroll 8
  for (i64 k = 0; k < count; k++) {
    vec right[2];
#pragma GCC unroll 2
    for (i64 j = 0; j < vectors; j++) right[j] = load(b + k * TILE_COLUMNS + j * LANES);
#pragma GCC unroll 16
    for (i64 i = 0; i < rows; i++) {
      vec left = broadcast(a[k * LEFT_PITCH + i]);
#pragma GCC unroll 2
      for (i64 j = 0; j < vectors; j++) MULTIPLY_ADD(sum[i][j], left, right[j]);
    }
  }
}

/* c (rows, vectors * LANES) = start + a b; inlined where rows and vectors are constants. Its place is
   fetched a row at a time: all rows together would bar the way for what it reads. */
INLINE void tile_of(const i64 rows, const i64 vectors, i64 depth, const real *a, const real *b,
                    real *c, i64 pitch, struct start start) {
  enum { STEPS = 8 };
  const real *next = start.next ? start.next : b;
  if (start.add) start.bias = start.across = NULL;
  const real *place = c;
  i64 waiting = rows;
  for (; waiting > depth / STEPS; waiting--, place += pitch) fetch_to_write(place, vectors);
  vec sum[TILE_ROWS][2];
#pragma GCC unroll 16
  for (i64 i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (i64 j = 0; j < vectors; j++)
      sum[i][j] = start.bias     ? broadcast(start.bias[i])
                  : start.across ? load(start.across + j * LANES)
                                 : (vec){0};
  }
  for (; depth >= STEPS; depth -= STEPS) {
    fetch(next, TILE_COLUMNS);
    fetch_to_write(place, vectors);
    if (--waiting > 0) place += pitch;
    tile_steps(rows, vectors, STEPS, a, b, sum);
    a += STEPS * LEFT_PITCH, b += STEPS * TILE_COLUMNS, next += TILE_COLUMNS;
    HIDDEN(a);
    HIDDEN(b);
  }
  for (; depth > 0; depth--, a += LEFT_PITCH, b += TILE_COLUMNS)
    tile_steps(rows, vectors, 1, a, b, sum);
#pragma GCC unroll 16
  for (i64 i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (i64 j = 0; j < vectors; j++) {
      real *to = c + i * pitch + j * LANES;
      if (start.add) sum[i][j] += load(to);
      store(to, sum[i][j]);
    }
}

/* c (rows, vectors * LANES) = start + a b, from one packed panel of each factor. */
static void tile(i64 rows, i64 vectors, i64 depth, const real *a, const real *b, real *c,
                 i64 pitch, struct start start) {
#define CASE(r)                                                     \
  case 2 * r: tile_of(r, 1, depth, a, b, c, pitch, start); return;  \
  case 2 * r + 1: tile_of(r, 2, depth, a, b, c, pitch, start); return;
  switch (2 * rows + vectors - 1) { EACH_HEIGHT(CASE) }
#undef CASE
}

/* The same for any number of columns: an incomplete tile is computed beside C and copied. */
static void tile_in(i64 rows, i64 columns, i64 depth, const real *a, const real *b, real *c,
                    i64 pitch, struct start start) {
  i64 vectors = pieces(columns, LANES);
  if (columns == vectors * LANES) {
    tile(rows, vectors, depth, a, b, c, pitch, start);
    return;
  }
  real beside[TILE_ROWS * TILE_COLUMNS], across[TILE_COLUMNS];
  size_t bytes = columns * sizeof(real);
  if (start.across) start.across = memcpy(across, start.across, bytes);
  if (start.add)
    for (i64 i = 0; i < rows; i++) memcpy(beside + i * TILE_COLUMNS, c + i * pitch, bytes);
  tile(rows, vectors, depth, a, b, beside, TILE_COLUMNS, start);
  for (i64 i = 0; i < rows; i++) memcpy(c + i * pitch, beside + i * TILE_COLUMNS, bytes);
}

/* to[k * pitch + i] = from[i * line + k] for LANES steps k and the lines i0 to i0 + LANES - 1;
   lines that are not there repeat the last. */
static void pack_square(const real *from, i64 line, i64 lines, i64 i0, real *to, i64 pitch) {
  vec v[LANES];
#pragma GCC unroll 16
  for (i64 i = 0; i < LANES; i++) v[i] = load(from + min_i64(i0 + i, lines - 1) * line);
  transpose(v);
#pragma GCC unroll 16
  for (i64 k = 0; k < LANES; k++) store(to + k * pitch + i0, v[k]);
}

/* to[k * pitch + i] = from[i * line + k * step] for all lines i < pitch, a multiple of LANES, and
   all steps k < depth. What stands in the places of lines that are not there is never used. */
static void pack(const real *from, i64 line, i64 step, i64 lines, i64 depth, i64 pitch, real *to) {
  i64 k = 0;
  if (step == 1)
    for (; k + LANES <= depth; k += LANES)
      for (i64 i = 0; i < lines; i += LANES)
        pack_square(from + k, line, lines, i, to + k * pitch, pitch);
  if (line == 1)
    for (; k < depth; k++) memcpy(to + k * pitch, from + k * step, lines * sizeof(real));
  for (; k < depth; k++)
    for (i64 i = 0; i < lines; i++) to[k * pitch + i] = from[i * line + k * step];
}

/* to[k * pitch + i] = from[k * step + i] for all steps k < depth and i < width, a multiple of
   LANES and not more than the pitch; only `lines` of these are there. */
INLINE void copy_steps(const real *from, i64 step, i64 lines, i64 depth, const i64 width, real *to,
                       i64 pitch) {
  if (lines >= width)
    for (i64 k = 0; k < depth; k++)
#pragma GCC unroll 2
      for (i64 i = 0; i < width; i += LANES) store(to + k * pitch + i, load(from + k * step + i));
  else
    for (i64 k = 0; k < depth; k++) memcpy(to + k * pitch, from + k * step, lines * sizeof(real));
}

/* The right factor b (depth, n) as panels [depth][TILE_COLUMNS], one after another. Its lines are
   read from front to back: one at a time, or a few pieces of some. */
static void pack_right(struct matrix b, i64 n, i64 depth, real *to) {
  enum { STEPS = 8 };
  if (b.column == 1)
    for (i64 k = 0; k < depth; k += STEPS)
      for (i64 j = 0; j < n; j += TILE_COLUMNS)
        copy_steps(b.at + k * b.row + j, b.row, n - j, min_i64(STEPS, depth - k), TILE_COLUMNS,
                   to + j * depth + k * TILE_COLUMNS, TILE_COLUMNS);
  else
    for (i64 j = 0; j < n; j += LANES)
      pack(b.at + j * b.column, b.column, b.row, min_i64(n - j, LANES), depth, TILE_COLUMNS,
           to + j / TILE_COLUMNS * depth * TILE_COLUMNS + j % TILE_COLUMNS);
}

/* The i-th of the panels that share m rows evenly: its first row. */
INLINE i64 panel_row(i64 m, i64 i) { return m * i / pieces(m, TILE_ROWS); }

/* The panels of rows from `first` to `end` of the left factor a (m, depth), whose first row is that
   of the first panel, as [depth][LEFT_PITCH], one after another. */
static void pack_left(struct matrix a, i64 m, i64 first, i64 end, i64 depth, real *to) {
  enum { STEPS = 8 };
  i64 top = panel_row(m, first), below = m - top;
  for (i64 k = 0, steps; k < depth; k += steps) {
    steps = a.row == 1 ? min_i64(STEPS, depth - k) : depth;
    for (i64 i = first; i < end; i++) {
      i64 row = panel_row(m, i) - top, rows = panel_row(m, i + 1) - top - row;
      real *panel = to + (i - first) * depth * LEFT_PITCH + k * LEFT_PITCH;
      if (a.row == 1)
        copy_steps(a.at + row + k * a.column, a.column, below - row, steps, LEFT_PITCH, panel,
                   LEFT_PITCH);
      else
        pack(a.at + row * a.row, a.row, a.column, rows, depth, LEFT_PITCH, panel);
    }
  }
}

/* c (m, n; rows `pitch` apart) += a (m, depth) b (depth, n), by the calling thread alone.
   work: depth * (LEFT_PITCH + n rounded up to TILE_COLUMNS) numbers. */
static void add_product(i64 m, i64 n, i64 depth, struct matrix a, struct matrix b, real *c,
                        i64 pitch, real *work) {
  real *left = work, *right = work + depth * LEFT_PITCH;
  struct start start = {.add = 1};
  pack_right(b, n, depth, right);
  for (i64 i = 0; i < pieces(m, TILE_ROWS); i++) {
    i64 row = panel_row(m, i), rows = panel_row(m, i + 1) - row;
    pack(a.at + row * a.row, a.row, a.column, rows, depth, LEFT_PITCH, left);
    for (i64 j = 0; j < n; j += TILE_COLUMNS)
      tile_in(rows, min_i64(n - j, TILE_COLUMNS), depth, left, right + j * depth,
              c + row * pitch + j, pitch, start);
  }
}
