/* Linear where everything fits into the cache beside the processor: no packed panels, one thread.

   Tiles of the result stay in registers; of the factors a may be transposed, b has rows one after
   another, readable up to whole vectors. */
#include "multiply.h"

enum {
  SMALL_ROWS = 4,
  SMALL_WORK = 32768 /* numbers of scratch memory */
};

struct small {
  i64 m, n, depth; /* c (m, n) = start + a (m, depth) b (depth, n) */
  const real *a;
  i64 a_row, a_column;
  const real *b;
  i64 b_row;
  real *c;
  const real *bias; /* (n,), added to each row, or NULL; readable up to whole vectors */
  int add, relu;    /* c += a b; c = max(c, 0) */
};

/* The tile at c[i][j] with `columns` of its columns inside c; inlined, rows and vectors constants. */
INLINE void small_tile_of(const i64 rows, const i64 vectors, const struct small *s, i64 i, i64 j,
                          i64 columns) {
  vec sum[SMALL_ROWS][2] = {{{0}}};
  const size_t bytes = columns * sizeof(real);
  real *c = s->c + i * s->n + j;
  const real *a = s->a + i * s->a_row, *b = s->b + j;
  for (i64 k = 0; k < s->depth; k++, a += s->a_column, b += s->b_row) {
    vec right[2];
#pragma GCC unroll 2
    for (i64 v = 0; v < vectors; v++) right[v] = load(b + v * LANES);
#pragma GCC unroll 4
    for (i64 r = 0; r < rows; r++)
#pragma GCC unroll 2
      for (i64 v = 0; v < vectors; v++) sum[r][v] += broadcast(a[r * s->a_row]) * right[v];
  }
#pragma GCC unroll 4
  for (i64 r = 0; r < rows; r++, c += s->n) {
    vec before[2] = {{0}};
    if (s->add) memcpy(before, c, bytes);
#pragma GCC unroll 2
    for (i64 v = 0; v < vectors; v++) {
      if (s->bias) before[v] = load(s->bias + j + v * LANES);
      sum[r][v] += before[v];
      if (s->relu) sum[r][v] = GREATER((vec){0}, sum[r][v]); /* NaN stays NaN */
    }
    if (columns == vectors * LANES) {
#pragma GCC unroll 2
      for (i64 v = 0; v < vectors; v++) store(c + v * LANES, sum[r][v]);
    } else {
      memcpy(c, sum[r], bytes);
    }
  }
}

static void small_tile(const struct small *s, i64 i, i64 j) {
  const i64 rows = min_i64(s->m - i, SMALL_ROWS), columns = min_i64(s->n - j, 2 * LANES);
  switch (2 * rows + (columns > LANES)) {
#define CASE(r)                                                      \
  case 2 * r: small_tile_of(r, 1, s, i, j, columns); return;         \
  case 2 * r + 1: small_tile_of(r, 2, s, i, j, columns); return;
    CASE(1) CASE(2) CASE(3) CASE(4)
#undef CASE
  }
}

static void small_product(struct small s) {
  for (i64 j = 0; j < s.n; j += 2 * LANES)
    for (i64 i = 0; i < s.m; i += SMALL_ROWS) small_tile(&s, i, j);
}

INLINE i64 whole_vectors(i64 n) { return (n + LANES - 1) / LANES * LANES; }

/* x (rows, n) with rows of whole vectors: itself, or a copy in `work` */
static const real *padded(const real *x, i64 rows, i64 n, real *work) {
  const i64 pitch = whole_vectors(n);
  if (pitch == n) return x;
  for (i64 r = 0; r < rows; r++) {
    memcpy(work + r * pitch, x + r * n, n * sizeof(real));
    memset(work + r * pitch + n, 0, (pitch - n) * sizeof(real));
  }
  return work;
}

/* y (n, o) = x (n, i) wᵀ + b, with relu the greater of it and 0;
   (i + 1) · (o rounded up to vectors) are at most SMALL_WORK */
void KERNEL(linear_small)(const real *x, const real *w, const real *b, real *y, i64 n, i64 i, i64 o,
                          int relu) {
  const i64 pitch = whole_vectors(o);
  real work[SMALL_WORK];
  pack(w, i, 1, o, i, pitch, work);
  small_product((struct small){n, o, i, x, i, 1, work, pitch, y,
                               b ? padded(b, 1, o, work + i * pitch) : NULL, 0, relu});
}

/* dx = dy w, dw += dyᵀ x, db += Σ dy, each left out where it is NULL; with y, dy counts where y > 0
   max(n, o) · (i rounded up to vectors), and n · o more with y, are at most SMALL_WORK */
void KERNEL(linear_backward_small)(const real *x, const real *y, const real *dy, const real *w,
                                   real *dw, real *db, real *dx, i64 n, i64 i, i64 o) {
  const i64 pitch = whole_vectors(i);
  real work[SMALL_WORK];
  if (y) {
    real *passed = work + (n > o ? n : o) * pitch;
    for (i64 e = 0; e < n * o; e++) passed[e] = y[e] > 0 ? dy[e] : 0;
    dy = passed;
  }
  if (dw)
    small_product(
        (struct small){o, i, n, dy, 1, o, padded(x, n, i, work), pitch, dw, NULL, 1, 0});
  if (dx)
    small_product(
        (struct small){n, i, o, dy, o, 1, padded(w, o, i, work), pitch, dx, NULL, 0, 0});
  for (i64 r = 0; db && r < n; r++)
    for (i64 k = 0; k < o; k++) db[k] += dy[r * o + k];
}
