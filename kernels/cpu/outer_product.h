/* The factors of a convolution's weight gradient, packed, and the tiles of their products: see
   conv_weight.c. */
#pragma once
#include "panels.h"

/* Pixels of some lines of some images: those of a line stand `step` apart. */
struct pixels {
  i64 images, lines, columns;
  const real *at;
  i64 image, line, step;
};

INLINE i64 count_of(const struct pixels *p) { return p->images * p->lines * p->columns; }

INLINE const real *line_of(const struct pixels *p, i64 i) {
  return p->at + i / p->lines * p->image + i % p->lines * p->line;
}

/* Two factors of so many pixels, of the left one a number for each result. */
struct runs {
  i64 lines, columns;
  const real *left, *right;
  i64 left_line, left_step, right_line, right_step;
};

/* The left factor's pixels may be one line; so may the right one's, and of images it has one. */
INLINE struct runs runs_of(const struct pixels *left, const struct pixels *right) {
  i64 lines = right->lines, columns = right->columns;
  i64 line = left->lines == lines ? left->line : columns * left->step;
  if (line == columns * left->step && right->line == columns * right->step)
    columns *= lines, lines = 1;
  return (struct runs){lines, columns,    left->at,    right->at,
                       line,  left->step, right->line, right->step};
}

/* What a tile fetches while it computes: `count` places, `step` apart. */
struct stream {
  const real *at;
  i64 step, count;
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

/* How near what is wanted soon is fetched, as __builtin_prefetch counts: with AVX-512 into the
   first-level cache, which is large there, for one of AMD's is slow to fetch into the second. */
enum { SOON = VECTOR_BYTES == 64 ? 3 : 2 };

/* to (rows, PANEL; `pitch` apart) = Σ of left[row] right[column], or += (add): what stands there
   is wanted last, for it may come from far. The last place of `next` is fetched again and again. */
INLINE void outer_rows(const int rows, const int vectors, struct runs r, struct stream next,
                       int add, real *to, i64 pitch) {
  enum { STEPS = 4 };
  vec sum[TILE_ROWS][2];
  const real *place = to;
  i64 waiting = rows, turns = r.lines * (r.columns / STEPS);
  i64 each = pieces(next.count, max_i64(1, turns));
  for (; waiting > turns; waiting--, place += pitch) fetch_to_write(place, vectors);
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) sum[i][j] = (vec){0};
  for (i64 l = 0; l < r.lines; l++, r.left += r.left_line, r.right += r.right_line) {
    const real *left = r.left, *right = r.right;
    i64 t = r.columns;
    for (; t >= STEPS; t -= STEPS) {
      for (i64 f = each; f > 0; f--) {
        __builtin_prefetch(next.at, 0, SOON);
        if (--next.count > 0) next.at += next.step;
      }
      fetch_to_write(place, vectors);
      if (--waiting > 0) place += pitch;
#pragma GCC unroll 8
      for (int u = 0; u < STEPS; u++, left += r.left_step, right += r.right_step)
        outer_step(rows, vectors, left, right, sum);
    }
    for (; t > 0; t--, left += r.left_step, right += r.right_step)
      outer_step(rows, vectors, left, right, sum);
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      real *at = to + i * pitch + j * LANES;
      if (add) sum[i][j] += load(at);
      store(at, sum[i][j]);
    }
}

/* runs: by address, for what was just stored piece by piece is slow to copy */
static void outer_tile(i64 rows, i64 vectors, const struct runs *runs, struct stream next, int add,
                       real *to, i64 pitch) {
#define CASE(r)                                                      \
  case 2 * r: outer_rows(r, 1, *runs, next, add, to, pitch); return; \
  case 2 * r + 1: outer_rows(r, 2, *runs, next, add, to, pitch); return;
  switch (2 * rows + vectors - 1) { EACH_HEIGHT(CASE) }
#undef CASE
}

enum { PIXELS_AT_ONCE = 8, LINE = 64 / sizeof(real) };

/* Where a tile takes nearly all of a line of the cache of each pixel, the left factor is read where
   it stands. Else it is packed, or its lines, a power of two apart, would be gone before the next
   tile wants them. */
enum { IN_PLACE = TILE_ROWS + 2 >= LINE };

/* Packed groups and panels stand so far apart that they do not fight for the same lines. */
INLINE i64 left_numbers(i64 pixels) { return pixels * TILE_ROWS + PANEL; }
INLINE i64 right_numbers(i64 pixels) { return (pixels + 1) * PANEL; }

/* What the windows of a strip are the gradients of, from channel `row` on. Whole lines are one. */
static struct pixels gradient_pixels(const struct conv_last *s, const struct strip *t,
                                     const real *dy, i64 row) {
  const real *at = dy + ((t->image * s->grid_h + t->line) * s->grid_w + t->column) * s->k + row;
  struct pixels p = {1, t->lines, t->columns, at, 0, s->grid_w * s->k, s->k};
  if (t->columns == s->grid_w) p.columns *= t->images * t->lines, p.lines = 1;
  return p;
}

/* The same pixels, packed: one line. */
INLINE struct pixels packed(const struct pixels *p, const real *at, i64 step) {
  return (struct pixels){1, 1, count_of(p), at, 0, 0, step};
}

/* The heights of groups of results one after another, as panel_row parts them, without divisions. */
struct heights {
  i64 least, rest, groups, beyond;
};

INLINE struct heights heights_from(i64 m, i64 group) {
  i64 groups = pieces(m, TILE_ROWS);
  return (struct heights){m / groups, m % groups, groups, m * group % groups};
}

INLINE i64 next_height(struct heights *h) {
  h->beyond += h->rest;
  i64 more = h->beyond >= h->groups;
  h->beyond -= more * h->groups;
  return h->least + more;
}

/* A part of the products of a strip: groups of TILE_ROWS results and what they are multiplied by,
   panels of what each tap reads (taps side by side in one). */
struct section {
  i64 group, groups, panel, panels; /* the first, and the one after the last */
};

/* to (count, TILE_ROWS) = so many vectors, `step` apart; each reaches into the place of the next */
INLINE void pack_group(const i64 count, const real *from, i64 step, real *to) {
#pragma GCC unroll 8
  for (i64 i = 0; i < count; i++, from += step, to += TILE_ROWS) {
#pragma GCC unroll 2
    for (i64 l = 0; l < LEFT_PITCH; l += LANES) store(to + l, load(from + l));
  }
}

/* `count` pixels, from the column on of a line, of the left factor of a part: of each of its groups
   (pixels, TILE_ROWS). */
static void pack_block(const struct conv_last *s, const struct pixels *p,
                       const struct section *section, i64 line, i64 column, i64 count,
                       real *left) {
  i64 row = panel_row(s->k, section->group), size = left_numbers(count_of(p));
  struct heights heights = heights_from(s->k, section->group);
  const real *from = p->at + line * p->line + column * p->step;
  left += (line * p->columns + column) * TILE_ROWS;
  for (i64 g = section->group, rows; g < section->groups; g++, left += size) {
    rows = next_height(&heights);
    i64 beyond = row + LEFT_PITCH - s->k; /* numbers of the next pixels in a vector */
    i64 whole = beyond <= 0 ? count : max_i64(count - pieces(beyond, s->k), 0);
    if (whole == PIXELS_AT_ONCE)
      pack_group(PIXELS_AT_ONCE, from, p->step, left);
    else
      pack_group(whole, from, p->step, left);
    for (i64 i = whole; i < count; i++)
      for (i64 l = 0; l < rows; l++) left[i * TILE_ROWS + l] = from[i * p->step + l];
    row += rows, from += rows;
  }
}

/* The left factor of a part. */
static void pack_gradient(const struct conv_last *s, const struct pixels *p,
                          const struct section *section, real *left) {
  for (i64 line = 0; line < p->lines; line++)
    for (i64 j = 0; j < p->columns; j += PIXELS_AT_ONCE)
      pack_block(s, p, section, line, j, min_i64(p->columns - j, PIXELS_AT_ONCE), left);
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
      t->images, t->lines, t->columns,
      t->x + p * s->step_h * t->x_row + q * s->step_w * t->x_column + panel % cut->panels * PANEL,
      s->x_image, s->stride_h * t->x_row, s->stride_w * t->x_column};
}

/* How many vectors of a panel there are. */
INLINE i64 panel_vectors(const struct cut *cut, i64 panel) {
  return min_i64(pieces(cut->width - panel % cut->panels * PANEL, LANES), 2);
}

/* to (panels, pixels, PANEL) = `width` numbers of each pixel */
static void pack_pixels(const struct pixels *p, i64 width, real *to) {
  i64 size = right_numbers(count_of(p));
  for (i64 line = 0; line < p->images * p->lines; line++)
    for (i64 j = 0; j < p->columns; j += PIXELS_AT_ONCE) {
      const real *at = line_of(p, line) + j * p->step;
      i64 count = min_i64(p->columns - j, PIXELS_AT_ONCE);
      real *into = to + (line * p->columns + j) * PANEL;
      for (i64 c = 0; c < width; c += PANEL, into += size, at += PANEL)
        if (c + LANES < width)
          for (i64 i = 0; i < count; i++) {
            fetch_to_read(at + (i + PIXELS_AT_ONCE) * p->step, 2);
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
  i64 size = right_numbers(t->images * t->lines * t->columns);
  for (i64 i = section->panel, till; i < section->panels; i = till) {
    i64 tap = i / cut->panels, end = (tap + 1) * cut->panels;
    struct pixels x = panel_pixels(s, t, cut, i);
    till = min_i64(section->panels, end);
    pack_pixels(&x, till < end ? (till - i) * PANEL : cut->width - i % cut->panels * PANEL,
                right + (i - section->panel) * size);
  }
}
