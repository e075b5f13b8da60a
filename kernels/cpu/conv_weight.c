/* The gradient of a convolution's weights with channels lying together: for every tap the product
   of dy, transposed, with what the tap read. Both factors of a strip are packed, since numbers a
   power of two apart fight for the same lines of the cache; the sums of a tile stay in registers
   for a strip, and what the next ones need is fetched meanwhile. */

/* `lines` times `count` rows of the left factor, one number for each result, and of the right one,
   whose lines stand right_line apart. */
struct runs {
  i64 lines, count;
  const real *left, *right;
  i64 left_step, right_line, right_step;
};

/* sum += left right for one row of the factors */
INLINE void outer_step(const int rows, const int vectors, const real *left, const real *from,
                       vec sum[][2]) {
  vec right[2];
#pragma GCC unroll 2
  for (int j = 0; j < vectors; j++) {
    right[j] = load(from + j * LANES);
    OPAQUE_VECTOR(right[j]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++) {
    vec number = broadcast(left[i]);
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) MULTIPLY_ADD(sum[i][j], number, right[j]);
  }
}

/* to (rows, PANEL; `pitch` apart) += Σ of left[row] right[column] */
INLINE void outer_rows(const int rows, const int vectors, struct runs r, real *to, i64 pitch) {
  vec sum[TILE_ROWS][2];
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] = load(to + i * pitch + j * LANES);
  for (i64 l = 0; l < r.lines; l++, r.right += r.right_line) {
    const real *right = r.right;
    for (i64 t = 0; t < r.count; t++, r.left += r.left_step, right += r.right_step)
      outer_step(rows, vectors, r.left, right, sum);
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

/* Pixels of some lines side by side: number i stands at `at` + i / columns * line + i % columns *
   step. */
struct pixels {
  i64 lines, columns;
  const real *at;
  i64 line, step;
};

/* Packed groups and panels stand so far apart that they do not fight for the same lines. */
INLINE i64 left_numbers(i64 pixels) { return pixels * LEFT_PITCH + PANEL; }
INLINE i64 right_numbers(i64 pixels) { return (pixels + 1) * PANEL; }

/* Fetch share `i` of `shares` of the pixels, `length` numbers of each. */
static void fetch_pixels(const struct pixels *p, i64 length, i64 i, i64 shares) {
  i64 all = p->lines * p->columns, from = all * i / shares, till = all * (i + 1) / shares;
  while (from < till) {
    i64 line = from / p->columns, end = min_i64(till, (line + 1) * p->columns);
    const real *at = p->at + line * p->line + (from - line * p->columns) * p->step;
    for (; from < end; from++, at += p->step)
      for (i64 l = 0; l < length; l += 64 / sizeof(real)) __builtin_prefetch(at + l, 0, 2);
  }
}

/* What the windows of a strip are the gradients of, from channel `row` on. */
static struct pixels gradient_pixels(const struct conv_last *s, const struct strip *t,
                                     const real *dy, i64 row) {
  i64 pixel = (t->image * s->grid_h + t->line) * s->grid_w + t->column;
  return (struct pixels){t->lines, t->columns, dy + pixel * s->k + row, s->grid_w * s->k, s->k};
}

/* A part of the products of a strip: groups of TILE_ROWS results and what they are multiplied by,
   panels of what each tap reads (taps side by side in one). */
struct section {
  i64 group, groups, panel, panels; /* the first, and the one after the last */
};

/* to (count, LEFT_PITCH) = so many vectors, `step` apart */
INLINE void pack_group(const i64 count, const real *from, i64 step, real *to) {
#pragma GCC unroll 8
  for (i64 i = 0; i < count; i++, from += step, to += LEFT_PITCH) {
    __builtin_prefetch(from + PIXELS_AT_ONCE * step);
#pragma GCC unroll 2
    for (i64 l = 0; l < LEFT_PITCH; l += LANES) store(to + l, load(from + l));
  }
}

/* The left factor of a part: of all its groups (pixels, LEFT_PITCH). Block b of it: PIXELS_AT_ONCE
   pixels of a line. */
static void pack_gradient(const struct conv_last *s, const struct pixels *p,
                          const struct section *section, i64 b, real *left) {
  i64 first = panel_row(s->k, section->group), size = left_numbers(p->lines * p->columns);
  i64 blocks = pieces(p->columns, PIXELS_AT_ONCE), line = b / blocks, step = p->step;
  i64 column = b % blocks * PIXELS_AT_ONCE, count = min_i64(p->columns - column, PIXELS_AT_ONCE);
  const real *at = p->at + line * p->line + column * step;
  left += (line * p->columns + column) * LEFT_PITCH;
  for (i64 g = section->group; g < section->groups; g++, left += size) {
    i64 row = panel_row(s->k, g), rows = panel_row(s->k, g + 1) - row;
    const real *from = at + row - first;
    if (row + LEFT_PITCH > s->k) /* a vector would reach beyond dy */
      for (i64 i = 0; i < count; i++)
        for (i64 l = 0; l < rows; l++) left[i * LEFT_PITCH + l] = from[i * step + l];
    else if (count == PIXELS_AT_ONCE)
      pack_group(PIXELS_AT_ONCE, from, step, left);
    else
      pack_group(count, from, step, left);
  }
}

INLINE i64 gradient_blocks(const struct pixels *p) {
  return p->lines * pieces(p->columns, PIXELS_AT_ONCE);
}

/* How what the taps read is cut into panels: `taps` that stand alone, of `width` numbers, `panels`
   for each. A tile's sums are `pitch` apart, those of panels `panel`: of 1 x 1 taps they lie as
   the gradient does, which they then are. */
struct cut {
  i64 together, width, taps, panels, panel, pitch;
};

static struct cut cut_of(const struct conv_last *s, int direct) {
  i64 together = s->step_w == 1 && (s->copies || s->x_column == s->c);
  i64 width = together ? s->q * s->c : s->c, taps = together ? s->p : s->p * s->q;
  return (struct cut){together, width, taps, pieces(width, PANEL),
                      direct ? PANEL : s->k * PANEL, direct ? s->c : PANEL};
}

/* What a strip's windows read with a tap, from a panel on. */
static struct pixels panel_pixels(const struct conv_last *s, const struct strip *t,
                                  const struct cut *cut, i64 panel) {
  i64 tap = panel / cut->panels, p = cut->together ? tap : tap / s->q;
  i64 q = cut->together ? 0 : tap % s->q;
  return (struct pixels){
      t->lines, t->columns,
      t->x + p * s->step_h * t->x_row + q * s->step_w * t->x_column + panel % cut->panels * PANEL,
      s->stride_h * t->x_row, s->stride_w * t->x_column};
}

/* How many vectors of a panel there are. */
INLINE i64 panel_vectors(const struct cut *cut, i64 panel) {
  return min_i64(pieces(cut->width - panel % cut->panels * PANEL, LANES), 2);
}

/* to (panels, pixels, PANEL) = `width` numbers of each pixel */
static void pack_pixels(const struct pixels *p, i64 width, real *to) {
  i64 size = right_numbers(p->lines * p->columns);
  for (i64 line = 0; line < p->lines; line++)
    for (i64 j = 0; j < p->columns; j += PIXELS_AT_ONCE) {
      const real *at = p->at + line * p->line + j * p->step;
      i64 count = min_i64(p->columns - j, PIXELS_AT_ONCE);
      real *into = to + (line * p->columns + j) * PANEL;
      for (i64 c = 0; c < width; c += PANEL, into += size, at += PANEL)
        if (c + LANES < width)
          for (i64 i = 0; i < count; i++) {
            __builtin_prefetch(at + (i + PIXELS_AT_ONCE) * p->step);
            store(into + i * PANEL, load(at + i * p->step));
            store(into + i * PANEL + LANES, load(at + i * p->step + LANES));
          }
        else
          for (i64 i = 0; i < count; i++) store(into + i * PANEL, load(at + i * p->step));
    }
}

/* The right factor of a part: of all its panels (pixels, PANEL). */
static void pack_taps(const struct conv_last *s, const struct strip *t, const struct cut *cut,
                      const struct section *section, real *right) {
  i64 size = right_numbers(t->lines * t->columns);
  for (i64 i = section->panel, till; i < section->panels; i = till) {
    i64 tap = i / cut->panels, end = (tap + 1) * cut->panels;
    struct pixels x = panel_pixels(s, t, cut, i);
    till = min_i64(section->panels, end);
    pack_pixels(&x, till < end ? (till - i) * PANEL : cut->width - i % cut->panels * PANEL,
                right + (i - section->panel) * size);
  }
}

/* What will be wanted after a strip: dy, `rows` numbers a pixel, and what its windows read, `width`
   numbers, where that is not copied. */
struct wanted {
  struct pixels left, right;
  i64 rows, width;
};

/* The products of a part of a strip: sums += left right. left, right: the packed factors; the right
   one is not packed where pixels are as near to one another as that already. wanted: NULL for
   nothing. */
static void strip_product(const struct conv_last *s, const struct strip *t, const struct cut *cut,
                          const struct section *section, const struct wanted *wanted,
                          const real *left, real *right, real *sums) {
  i64 pixels = t->lines * t->columns, groups = section->groups - section->group;
  i64 panels = section->panels - section->panel, near = s->stride_w * t->x_column <= PANEL;
  if (!near) pack_taps(s, t, cut, section, right);
  for (i64 i = 0; i < panels; i++) {
    struct pixels x = panel_pixels(s, t, cut, section->panel + i);
    struct runs runs = {1, pixels, left, right + i * right_numbers(pixels), LEFT_PITCH, 0, PANEL};
    i64 vectors = panel_vectors(cut, section->panel + i);
    if (near) runs = (struct runs){x.lines, x.columns, left, x.at, LEFT_PITCH, x.line, x.step};
    for (i64 g = 0; g < groups; g++, runs.left += left_numbers(pixels)) {
      i64 row = panel_row(s->k, section->group + g);
      i64 rows = panel_row(s->k, section->group + g + 1) - row;
      if (wanted) {
        fetch_pixels(&wanted->left, wanted->rows, i * groups + g, panels * groups);
        if (!s->copies)
          fetch_pixels(&wanted->right, wanted->width, i * groups + g, panels * groups);
      }
      outer_tile(rows, vectors, runs,
                 sums + (section->panel + i) * cut->panel + row * cut->pitch, cut->pitch);
    }
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

/* How the products of a strip are cut into parts: `groups` groups by `panels` panels. */
struct parts {
  i64 all, groups, across, panels;
};

static struct section section_of(const struct conv_last *s, const struct cut *cut,
                              const struct parts *parts, i64 i) {
  i64 group = i / parts->across * parts->groups, panel = i % parts->across * parts->panels;
  return (struct section){group, min_i64(group + parts->groups, pieces(s->k, TILE_ROWS)), panel,
                          min_i64(panel + parts->panels, cut->taps * cut->panels)};
}

/* All threads share each strip and its left factor. */
static void strips_shared(const struct conv_last *s, const struct cut *cut,
                          const struct parts *parts, i64 strips, const real *x, const real *dy,
                          real *copy, real *left, real *right, real *sums) {
  i64 panels = cut->taps * cut->panels;
  struct section whole = {0, pieces(s->k, TILE_ROWS), 0, panels};
  if (cut->pitch == PANEL) {
#pragma omp for schedule(static)
    for (i64 i = 0; i < panels; i++)
      memset(sums + i * s->k * PANEL, 0, s->k * PANEL * sizeof(real));
  }
  for (i64 i = 0; i < strips; i++) {
    struct strip t = strip_of(s, i);
    struct pixels gradient = gradient_pixels(s, &t, dy, 0);
    point_strip(s, x, &t, copy);
    if (s->copies) {
#pragma omp for schedule(static) nowait
      for (i64 r = 0; r < strip_rows(s, &t); r++) copy_strip_row(s, x, &t, r, copy);
    }
#pragma omp for schedule(static)
    for (i64 b = 0; b < gradient_blocks(&gradient); b++)
      pack_gradient(s, &gradient, &whole, b, left);
#pragma omp for schedule(dynamic)
    for (i64 task = 0; task < parts->all; task++) {
      struct section part = section_of(s, cut, parts, task);
      strip_product(s, &t, cut, &part, NULL,
                    left + part.group * left_numbers(t.lines * t.columns), right, sums);
    }
  }
}

/* The sums of a part over strips from `first` to `last`. */
static void part_product(const struct conv_last *s, const struct cut *cut,
                         const struct section *part, i64 first, i64 last, const real *x,
                         const real *dy, real *copy, real *left, real *right, real *sums) {
  i64 row = panel_row(s->k, part->group), rows = panel_row(s->k, part->groups) - row;
  for (i64 i = part->panel; i < part->panels; i++)
    memset(sums + i * cut->panel + row * PANEL, 0, rows * PANEL * sizeof(real));
  for (i64 i = first; i < last; i++) {
    struct strip t = strip_of(s, i), next = strip_of(s, min_i64(i + 1, last - 1));
    struct pixels gradient = gradient_pixels(s, &t, dy, row);
    read_strip(s, x, &t, copy);
    point_strip(s, x, &next, copy);
    struct wanted wanted = {gradient_pixels(s, &next, dy, row),
                            panel_pixels(s, &next, cut, part->panel), rows,
                            (part->panels - part->panel) * PANEL};
    for (i64 b = 0; b < gradient_blocks(&gradient); b++)
      pack_gradient(s, &gradient, part, b, left);
    strip_product(s, &t, cut, part, &wanted, left, right, sums);
  }
}

/* Each thread takes parts of chunks of the strips. */
static void strips_in_chunks(const struct conv_last *s, const struct cut *cut,
                             const struct parts *parts, i64 strips, i64 chunks, const real *x,
                             const real *dy, real *copy, real *left, real *right, real *sums) {
  i64 size = cut->taps * cut->panels * s->k * PANEL;
#pragma omp for schedule(dynamic)
  for (i64 task = 0; task < chunks * parts->all; task++) {
    i64 chunk = task / parts->all;
    struct section part = section_of(s, cut, parts, task % parts->all);
    part_product(s, cut, &part, strips * chunk / chunks, strips * (chunk + 1) / chunks, x, dy,
                 copy, left, right, sums + chunk * size);
  }
}

/* dw += Σ dy x        dy channels-last, one group
   The strips are cut into chunks, whose number does not depend on that of the threads, with sums
   of their own; the products of a strip into parts of `groups` groups of results by s->panels
   panels. Of one chunk the threads share the strip and the left factor. No chunks: 1 x 1 taps and
   whole vectors of channels, the sums are dw itself.
   work: the sums, and for each thread `strip` numbers for a strip and its packed factors. */
void KERNEL(conv_weight)(const real *x, const real *dy, real *dw, const i64 *shape, i64 groups,
                         i64 chunks, i64 strip, real *work) {
  const struct conv_last *s = (const struct conv_last *)shape;
  i64 strips = s->n * pieces(s->grid_h, s->lines) * pieces(s->grid_w, s->columns);
  i64 pixels = s->lines * s->columns, all = pieces(s->k, TILE_ROWS);
  struct cut cut = cut_of(s, chunks == 0);
  i64 across = pieces(cut.taps * cut.panels, s->panels);
  struct parts parts = {pieces(all, groups) * across, groups, across, s->panels};
  i64 lefts = (chunks > 1 ? groups : all) * left_numbers(pixels);
  i64 each = strip + lefts + s->panels * right_numbers(pixels);
  real *places = work + chunks * cut.taps * cut.panels * s->k * PANEL;
#pragma omp parallel num_threads(s->threads)
  {
    real *mine = places + omp_get_thread_num() * each, *right = mine + strip + lefts;
    if (chunks > 1)
      strips_in_chunks(s, &cut, &parts, strips, chunks, x, dy, mine, mine + strip, right, work);
    else
      strips_shared(s, &cut, &parts, strips, x, dy, places, places + strip, right,
                    chunks ? work : dw);
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
