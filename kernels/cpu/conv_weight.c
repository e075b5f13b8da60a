/* The gradient of a convolution's weights with channels lying together: for every tap the product
   of dy, transposed, with what the tap read; the sums of a tile stay in registers for a strip. */

/* Lines of `count` pixels: of dy (the left factor, one number a row) and of what a tap read. */
struct runs {
  i64 lines, count;
  const real *left, *right;
  i64 left_line, left_step, right_line, right_step;
};

/* to (rows, PANEL) += Σ over the pixels of left[row] right[column] */
INLINE void outer_rows(const int rows, const int vectors, const struct runs *r, real *to) {
  vec sum[TILE_ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] = load(to + i * PANEL + j * LANES);
  for (i64 line = 0; line < r->lines; line++) {
    const real *a = r->left + line * r->left_line, *b = r->right + line * r->right_line;
    for (i64 t = 0; t < r->count; t++, a += r->left_step, b += r->right_step) {
      vec right[2];
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) {
        right[j] = load(b + j * LANES);
        OPAQUE_VECTOR(right[j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; i++) {
        vec left = broadcast(a[i]);
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++) sum[i][j] += left * right[j];
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) store(to + i * PANEL + j * LANES, sum[i][j]);
}

static void outer_tile(i64 rows, i64 vectors, const struct runs *r, real *to) {
#define CASE(r_)                                            \
  case 2 * r_: outer_rows(r_, 1, r, to); return;            \
  case 2 * r_ + 1: outer_rows(r_, 2, r, to); return;
  switch (2 * rows + vectors - 1) {
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if VECTOR_BYTES == 64
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
  }
#undef CASE
}

/* Rows first to till - 1 of one panel: to (all rows, PANEL) += left right. */
static void outer_panel(i64 first, i64 till, i64 columns, struct runs r, real *to) {
  const real *left = r.left;
  i64 rows = till - first, vectors = min_i64(pieces(columns, LANES), 2);
  for (i64 g = 0; g < pieces(rows, TILE_ROWS); g++) {
    i64 row = first + panel_row(rows, g), height = first + panel_row(rows, g + 1) - row;
    r.left = left + row;
    outer_tile(height, vectors, &r, to + row * PANEL);
  }
}

/* All products of one strip, by all threads: for each tap that stands alone and each panel of what
   it reads (`width` numbers, taps side by side in one), `parts` parts of the results. */
static void strip_products(const struct conv_last *s, const struct strip *t, const real *dy,
                           i64 parts, real *sums) {
  int together = s->step_w == 1 && t->x_column == s->c;
  i64 width = together ? s->q * s->c : s->c, taps = together ? s->p : s->p * s->q;
  i64 panels = pieces(width, PANEL), pixel = (t->image * s->grid_h + t->line) * s->grid_w;
#pragma omp for schedule(dynamic)
  for (i64 task = 0; task < taps * panels * parts; task++) {
    i64 part = task % parts, panel = task / parts % panels, tap = task / parts / panels;
    i64 p = together ? tap : tap / s->q, q = together ? 0 : tap % s->q;
    struct runs r = {
        .lines = t->lines, .count = t->columns,
        .left = dy + (pixel + t->column) * s->k, .left_line = s->grid_w * s->k,
        .left_step = s->k,
        .right = t->x + p * s->step_h * t->x_row + q * s->step_w * t->x_column + panel * PANEL,
        .right_line = s->stride_h * t->x_row, .right_step = s->stride_w * t->x_column};
    outer_panel(s->k * part / parts, s->k * (part + 1) / parts, width - panel * PANEL, r,
                sums + (tap * panels + panel) * s->k * PANEL);
  }
}

/* dw (k, c, p, q) += the sums (taps, panels, k, PANEL) */
static void add_sums(const struct conv_last *s, int together, const real *sums, real *dw) {
  i64 width = together ? s->q * s->c : s->c, panels = pieces(width, PANEL), taps = s->p * s->q;
#pragma omp for schedule(static)
  for (i64 k = 0; k < s->k; k++)
    for (i64 t = 0; t < taps; t++) {
      real *to = dw + k * s->c * taps + t;
      const real *from = sums + ((together ? t / s->q : t) * panels * s->k + k) * PANEL;
      i64 column = together ? t % s->q * s->c : 0, end = column + s->c;
      for (i64 till; column < end; column = till) {
        till = min_i64(end, column / PANEL * PANEL + PANEL);
        const real *at = from + column / PANEL * s->k * PANEL + column % PANEL;
        for (i64 l = 0; l < till - column; l++) to[l * taps] += at[l];
        to += (till - column) * taps;
      }
    }
}

/* dw += Σ dy x        dy channels-last, one group; work: `strip` numbers for a strip, sums. */
void KERNEL(conv_weight)(const real *x, const real *dy, real *dw, const i64 *shape, i64 parts,
                         i64 strip, real *work) {
  const struct conv_last *s = (const struct conv_last *)shape;
  i64 strips = s->n * pieces(s->grid_h, s->lines) * pieces(s->grid_w, s->columns);
  int together = s->step_w == 1 && (s->copies || s->x_column == s->c);
  i64 width = together ? s->q * s->c : s->c, taps = together ? s->p : s->p * s->q;
  real *sums = work + strip;
#pragma omp parallel num_threads(s->threads)
  {
#pragma omp for schedule(static)
    for (i64 i = 0; i < taps * pieces(width, PANEL); i++)
      memset(sums + i * s->k * PANEL, 0, s->k * PANEL * sizeof(real));
    for (i64 i = 0; i < strips; i++) {
      struct strip t = strip_of(s, i);
      point_strip(s, x, &t, work);
      if (s->copies) {
#pragma omp for schedule(static)
        for (i64 r = 0; r < strip_rows(s, &t); r++) copy_strip_row(s, x, &t, r, work);
      }
      strip_products(s, &t, dy, parts, sums);
    }
    add_sums(s, together, sums, dw);
  }
}

/* db += Σ dy        dy (pixels, k); blocks keep the rounding errors of long sums small */
void KERNEL(pixel_sums)(const real *dy, real *db, i64 pixels, i64 k) {
  enum { BLOCK = 128 };
#pragma omp parallel for if (pixels * k > PARALLEL_ABOVE)
  for (i64 first = 0; first < k; first += LANES) {
    i64 count = min_i64(LANES, k - first);
    vec total = {0};
    for (i64 i = 0; i < pixels; i += BLOCK) {
      vec sum = {0};
      for (i64 j = i; j < min_i64(pixels, i + BLOCK); j++)
        if (count == LANES)
          sum += load(dy + j * k + first);
        else
          for (i64 l = 0; l < count; l++) sum[l] += dy[j * k + first + l];
      total += sum;
    }
    for (i64 l = 0; l < count; l++) db[first + l] += total[l];
  }
}
