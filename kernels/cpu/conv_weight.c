/* The gradient of a convolution's weights with channels lying together: for every tap the product
   of dy, transposed, with what the tap read. Both factors of a strip are packed, since numbers a
   power of two apart fight for the same lines of the cache; the sums of a tile stay in registers
   for a strip. */

/* `count` rows of the left factor, one number for each result, and of the right one. */
struct runs {
  i64 count;
  const real *left, *right;
  i64 left_step, right_step;
};

/* to (rows, PANEL; `pitch` apart) += Σ of left[row] right[column] */
INLINE void outer_rows(const int rows, const int vectors, struct runs r, real *to, i64 pitch) {
  vec sum[TILE_ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] = load(to + i * pitch + j * LANES);
  for (i64 t = 0; t < r.count; t++, r.left += r.left_step, r.right += r.right_step) {
    vec right[2];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      right[j] = load(r.right + j * LANES);
      OPAQUE_VECTOR(right[j]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      vec left = broadcast(r.left[i]);
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) MULTIPLY_ADD(sum[i][j], left, right[j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) store(to + i * pitch + j * LANES, sum[i][j]);
}

static void outer_tile(i64 rows, i64 vectors, struct runs r, real *to, i64 pitch) {
#define CASE(r_)                                            \
  case 2 * r_: outer_rows(r_, 1, r, to, pitch); return;     \
  case 2 * r_ + 1: outer_rows(r_, 2, r, to, pitch); return;
  switch (2 * rows + vectors - 1) {
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#if VECTOR_BYTES == 64
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
#endif
  }
#undef CASE
}

enum { PIXELS_AT_ONCE = 8 };

/* to (pixels, PANEL) = `vectors` vectors for each pixel of some lines */
INLINE void pack_pixels(i64 lines, i64 columns, const real *from, i64 line, i64 step, i64 vectors,
                        real *to) {
  for (i64 i = 0; i < lines; i++)
    for (i64 j = 0; j < columns; j++, to += PANEL)
      for (i64 v = 0; v < vectors; v++)
        store(to + v * LANES, load(from + i * line + j * step + v * LANES));
}

/* Block b of the left factor of a strip, PIXELS_AT_ONCE pixels of dy: of all its panels (pixels,
   LEFT_PITCH), one for each TILE_ROWS channels. */
static void pack_gradient(const struct conv_last *s, const struct strip *t, const real *dy, i64 b,
                          real *left) {
  i64 pixels = t->lines * t->columns, from = b * PIXELS_AT_ONCE;
  i64 count = min_i64(pixels - from, PIXELS_AT_ONCE);
  const real *at[PIXELS_AT_ONCE];
  for (i64 i = 0; i < count; i++) {
    i64 line = t->line + (from + i) / t->columns, column = t->column + (from + i) % t->columns;
    at[i] = dy + ((t->image * s->grid_h + line) * s->grid_w + column) * s->k;
  }
  left += from * LEFT_PITCH;
  for (i64 g = 0; g < pieces(s->k, TILE_ROWS); g++, left += pixels * LEFT_PITCH) {
    i64 row = panel_row(s->k, g), rows = panel_row(s->k, g + 1) - row;
    if (row + LEFT_PITCH <= s->k)
      for (i64 i = 0; i < count; i++)
        for (i64 l = 0; l < LEFT_PITCH; l += LANES)
          store(left + i * LEFT_PITCH + l, load(at[i] + row + l));
    else /* a vector would reach beyond dy */
      for (i64 i = 0; i < count; i++)
        for (i64 l = 0; l < rows; l++) left[i * LEFT_PITCH + l] = at[i][row + l];
  }
}

/* How the products of a strip are cut: for each tap that stands alone and each panel of what it
   reads (taps side by side in one), `parts` parts of the results. A tile's sums are `pitch` apart,
   those of panels `panel`: of 1 x 1 taps they lie as the gradient does, which they then are. */
struct cut {
  i64 together, width, taps, panels, parts, panel, pitch;
};

static struct cut cut_of(const struct conv_last *s, i64 parts, int direct) {
  i64 together = s->step_w == 1 && (s->copies || s->x_column == s->c);
  i64 width = together ? s->q * s->c : s->c, taps = together ? s->p : s->p * s->q;
  return (struct cut){together, width, taps, pieces(width, PANEL), parts,
                      direct ? PANEL : s->k * PANEL, direct ? s->c : PANEL};
}

/* One of the products: sums += left right. right: memory for the packed factor. */
static void strip_product(const struct conv_last *s, const struct strip *t, const struct cut *cut,
                          i64 task, const real *left, real *right, real *sums) {
  i64 part = task % cut->parts, panel = task / cut->parts % cut->panels;
  i64 tap = task / cut->parts / cut->panels, groups = pieces(s->k, TILE_ROWS);
  i64 p = cut->together ? tap : tap / s->q, q = cut->together ? 0 : tap % s->q;
  i64 vectors = min_i64(pieces(cut->width - panel * PANEL, LANES), 2);
  i64 pixels = t->lines * t->columns;
  real *to = sums + (tap * cut->panels + panel) * cut->panel;
  pack_pixels(t->lines, t->columns,
              t->x + p * s->step_h * t->x_row + q * s->step_w * t->x_column + panel * PANEL,
              s->stride_h * t->x_row, s->stride_w * t->x_column, vectors, right);
  for (i64 g = groups * part / cut->parts; g < groups * (part + 1) / cut->parts; g++) {
    i64 row = panel_row(s->k, g), rows = panel_row(s->k, g + 1) - row;
    struct runs runs = {pixels, left + g * pixels * LEFT_PITCH, right, LEFT_PITCH, PANEL};
    outer_tile(rows, vectors, runs, to + row * cut->pitch, cut->pitch);
  }
}

/* dw (k, c, p, q) += the sums (chunks, taps, panels, k, PANEL), in this order */
static void add_sums(const struct conv_last *s, const struct cut *cut, i64 chunks, const real *sums,
                     real *dw) {
  i64 taps = s->p * s->q, size = cut->taps * cut->panels * s->k * PANEL;
#pragma omp for schedule(static)
  for (i64 k = 0; k < s->k; k++)
    for (i64 t = 0; t < taps; t++) {
      real *to = dw + k * s->c * taps + t;
      i64 tap = cut->together ? t / s->q : t;
      const real *from = sums + (tap * cut->panels * s->k + k) * PANEL;
      i64 column = cut->together ? t % s->q * s->c : 0, end = column + s->c;
      for (i64 till; column < end; column = till) {
        till = min_i64(end, column / PANEL * PANEL + PANEL);
        const real *at = from + column / PANEL * s->k * PANEL + column % PANEL;
        for (i64 l = 0; l < till - column; l++) {
          real sum = at[l];
          for (i64 i = 1; i < chunks; i++) sum += at[i * size + l];
          to[l * taps] += sum;
        }
        to += (till - column) * taps;
      }
    }
}

/* All threads share each strip. */
static void strips_shared(const struct conv_last *s, const struct cut *cut, i64 strips,
                          const real *x, const real *dy, real *copy, real *left, real *right,
                          real *sums) {
  i64 matrices = cut->taps * cut->panels;
  if (cut->pitch == PANEL) {
#pragma omp for schedule(static)
    for (i64 i = 0; i < matrices; i++)
      memset(sums + i * s->k * PANEL, 0, s->k * PANEL * sizeof(real));
  }
  for (i64 i = 0; i < strips; i++) {
    struct strip t = strip_of(s, i);
    point_strip(s, x, &t, copy);
    if (s->copies) {
#pragma omp for schedule(static) nowait
      for (i64 r = 0; r < strip_rows(s, &t); r++) copy_strip_row(s, x, &t, r, copy);
    }
#pragma omp for schedule(static)
    for (i64 b = 0; b < pieces(t.lines * t.columns, PIXELS_AT_ONCE); b++)
      pack_gradient(s, &t, dy, b, left);
#pragma omp for schedule(dynamic)
    for (i64 task = 0; task < matrices * cut->parts; task++)
      strip_product(s, &t, cut, task, left, right, sums);
  }
}

/* Each thread takes chunks of the strips, whose number does not depend on that of the threads. */
static void strips_in_chunks(const struct conv_last *s, const struct cut *cut, i64 strips,
                             i64 chunks, const real *x, const real *dy, real *copy, real *left,
                             real *right, real *sums) {
  i64 matrices = cut->taps * cut->panels, size = matrices * s->k * PANEL;
#pragma omp for schedule(dynamic)
  for (i64 chunk = 0; chunk < chunks; chunk++) {
    memset(sums + chunk * size, 0, size * sizeof(real));
    for (i64 i = strips * chunk / chunks; i < strips * (chunk + 1) / chunks; i++) {
      struct strip t = strip_of(s, i);
      read_strip(s, x, &t, copy);
      for (i64 b = 0; b < pieces(t.lines * t.columns, PIXELS_AT_ONCE); b++)
        pack_gradient(s, &t, dy, b, left);
      for (i64 task = 0; task < matrices * cut->parts; task++)
        strip_product(s, &t, cut, task, left, right, sums + chunk * size);
    }
  }
}

/* dw += Σ dy x        dy channels-last, one group
   work: the sums of the chunks, and for each thread `strip` numbers for a strip and its packed
   factors; of one chunk the threads share the strip and the left factor. No chunks: 1 x 1 taps
   and whole vectors of channels, the sums are dw itself. */
void KERNEL(conv_weight)(const real *x, const real *dy, real *dw, const i64 *shape, i64 parts,
                         i64 chunks, i64 strip, real *work) {
  const struct conv_last *s = (const struct conv_last *)shape;
  i64 strips = s->n * pieces(s->grid_h, s->lines) * pieces(s->grid_w, s->columns);
  struct cut cut = cut_of(s, parts, chunks == 0);
  i64 pixels = s->lines * s->columns, lefts = pieces(s->k, TILE_ROWS) * pixels * LEFT_PITCH;
  i64 each = strip + lefts + pixels * PANEL;
  real *places = work + chunks * cut.taps * cut.panels * s->k * PANEL;
#pragma omp parallel num_threads(s->threads)
  {
    real *mine = places + omp_get_thread_num() * each, *right = mine + strip + lefts;
    if (chunks > 1)
      strips_in_chunks(s, &cut, strips, chunks, x, dy, mine, mine + strip, right, work);
    else
      strips_shared(s, &cut, strips, x, dy, places, places + strip, right, chunks ? work : dw);
    if (chunks) add_sums(s, &cut, chunks, work, dw);
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
