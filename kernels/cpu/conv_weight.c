/* The gradient of a convolution's weights with channels lying together: for every tap the product
   of dy, transposed, with what the tap read. Both factors of a strip are packed, since numbers a
   power of two apart fight for the same lines of the cache; the sums of a tile stay in registers
   for a strip, and what the next ones need is fetched meanwhile. */
#include "outer_product.h"

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
