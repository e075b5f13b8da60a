/* Winograd's sums for F(7 x 7, 3 x 3) from taps: the points of the weights, nine for a tap, are made
   where they are used, and not kept.

   For some channels at a time the taps' columns become points of a row, or of the two rows of a pair
   of points, in the first-level cache. From these a point of the row takes three multiply-adds. It
   is made in registers and used there for all tiles, if these are few; or else a small panel of it
   is made, for the same products that points from memory have. */
#pragma once
#include "winograd_tiles.h"

enum { TAPS = 9 * LANES, HALVES = 3 * LANES }; /* of a channel and a vector of results */

/* Some channels of a block. next: the taps that are wanted after these. add: to the sums that there
   are of channels before. */
struct depth_part {
  const real *values, *taps, *next;
  i64 tiles, depth;
  int add;
};

/* The place of a pair's first point among those of a row; of 0 (pair = PAIRS). */
INLINE i64 first_point(int pair) { return pair < PAIRS ? 1 + 2 * pair : 0; }

/* Of taps (count, 9, LANES) the columns at a pair of points, or at 0 (pair = PAIRS): a row of
   (count, 3, LANES) for each point, `apart`. */
INLINE void half_points(const int pair, const real *taps, i64 count, real *to, i64 apart) {
  for (i64 i = 0; i < count; i++, taps += TAPS, to += HALVES)
#pragma GCC unroll 3
    for (int q = 0; q < 3; q++) {
      vec column[3], rows[2];
#pragma GCC unroll 3
      for (int p = 0; p < 3; p++) column[p] = load(taps + (p * 3 + q) * LANES);
      if (pair == PAIRS) {
        store(to + q * LANES, column[0]);
        continue;
      }
      pair_of_taps(pair, column, 1, rows, 1);
      store(to + q * LANES, rows[0]);
      store(to + apart + q * LANES, rows[1]);
    }
}

/* Of a row of half points the points of a pair, or 0, as panels `apart`; with 0 it fetches a line of
   `next` for each channel. */
INLINE void whole_points(const int pair, const real *half, i64 count, const real *next, real *to,
                         i64 apart) {
  for (i64 i = 0; i < count; i++, half += HALVES, next += LANES, to += PANEL) {
    vec taps[3] = {load(half), load(half + LANES), load(half + 2 * LANES)}, made[2];
    if (pair == PAIRS) {
      fetch_to_read(next, 1);
      store(to, taps[0]);
      continue;
    }
    pair_of_taps(pair, taps, 1, made, 1);
    store(to, made[0]);
    store(to + apart, made[1]);
  }
}

/* Either for a pair that is not known before; how many rows or points it has. */
#define FOR_PAIR(make, ...)                        \
  switch (pair) {                                  \
    case 0: make(0, __VA_ARGS__); return 2;        \
    case 1: make(1, __VA_ARGS__); return 2;        \
    case 2: make(2, __VA_ARGS__); return 2;        \
    case 3: make(3, __VA_ARGS__); return 2;        \
    default: make(PAIRS, __VA_ARGS__); return 1;   \
  }
static int some_halves(int pair, const real *taps, i64 count, real *to, i64 apart) {
  FOR_PAIR(half_points, taps, count, to, apart)
}
static int some_points(int pair, const real *half, i64 count, const real *next, real *to,
                       i64 apart) {
  FOR_PAIR(whole_points, half, count, next, to, apart)
}
#undef FOR_PAIR

/* A channel of all tiles times its weights at a point. */
INLINE void add_point(const int tiles, vec made, const real **at, vec (*sum)[TILE_ROWS]) {
  OPAQUE_VECTOR(made);
#pragma GCC unroll 14
  for (int t = 0; t < tiles; t++) MULTIPLY_ADD((*sum)[t], broadcast((*at)[t * LANES]), made);
  ++*at;
  OPAQUE(*at);
}

/* The sums of a row, for one vector of results, at some points: 0 if `zero`, and those of pairs from
   `first` on. values: (parts of LANES channels, points, tiles, LANES) */
INLINE void points_at_once(const int tiles, const int zero, const int first, const int pairs,
                           const struct winograd *s, const struct depth_part *part, i64 row,
                           const real *half, real *sums) {
  const int points = zero + 2 * pairs;
  i64 place = row * (s->m + 2) + (zero ? 0 : first_point(first)), matrix = s->tiles * PANEL;
  const real *values = part->values + place * s->point;
  const real *next = part->next + row * part->depth * LANES;
  vec sum[MOST_POINTS][TILE_ROWS];
  sums += place * matrix;
#pragma GCC unroll 9
  for (int e = 0; e < points; e++)
#pragma GCC unroll 14
    for (int t = 0; t < tiles; t++) sum[e][t] = (vec){0};
  for (i64 c = 0; c < part->depth; c += LANES, values += s->part) {
    const real *at[MOST_POINTS];
    i64 left = min_i64(LANES, part->depth - c);
#pragma GCC unroll 9
    for (int e = 0; e < points; e++) at[e] = values + e * s->point + LANES - left;
    for (; left > 0; left--, half += HALVES, next += LANES) {
      vec taps[3] = {load(half), load(half + LANES), load(half + 2 * LANES)};
      if (zero) {
        fetch_to_read(next, 1);
        add_point(tiles, taps[0], at, sum);
      }
#pragma GCC unroll 4
      for (int p = 0; p < pairs; p++) {
        const int e = zero + 2 * p;
        vec made[2];
        pair_of_taps(first + p, taps, 1, made, 1);
        add_point(tiles, made[0], at + e, sum + e);
        add_point(tiles, made[1], at + e + 1, sum + e + 1);
      }
    }
  }
  if (part->add)
#pragma GCC unroll 9
    for (int e = 0; e < points; e++)
#pragma GCC unroll 14
      for (int t = 0; t < tiles; t++) sum[e][t] += load(sums + e * matrix + t * PANEL);
#pragma GCC unroll 9
  for (int e = 0; e < points; e++)
#pragma GCC unroll 14
    for (int t = 0; t < tiles; t++) store(sums + e * matrix + t * PANEL, sum[e][t]);
}

/* The same for all points of a row, as many at a time as there are registers for. */
INLINE void row_of(const int tiles, const struct winograd *s, const struct depth_part *part, i64 row,
                   const real *half, real *sums) {
  const int fit = 2 * TILE_ROWS / tiles, more = fit < 4 ? 1 : 2;
  const int begin = fit < 3 ? 0 : fit < 5 ? 1 : fit < 9 ? 2 : 4;
  points_at_once(tiles, 1, 0, begin, s, part, row, half, sums);
#pragma GCC unroll 4
  for (int p = begin; p < PAIRS; p += more)
    points_at_once(tiles, 0, p, p + more < PAIRS ? more : PAIRS - p, s, part, row, half, sums);
}

static void row_sums(const struct winograd *s, const struct depth_part *part, i64 row,
                     const real *half, real *sums) {
#define CASE(t) \
  case t: row_of(t, s, part, row, half, sums); return;
  switch (part->tiles) { EACH_HEIGHT(CASE) }
#undef CASE
}

/* The sums of few tiles for some channels and one vector of results. */
static void vector_sums(const struct winograd *s, const struct depth_part *part, real *half,
                        real *sums) {
  i64 apart = s->taps * HALVES;
  for (int pair = 0; pair <= PAIRS; pair++)
    for (int i = 0, rows = some_halves(pair, part->taps, part->depth, half, apart); i < rows; i++)
      row_sums(s, part, first_point(pair) + i, half + i * apart, sums);
}

/* sums (rows, PANEL) = values (rows, depth) right (depth, PANEL), or += with `add`; from `next` on it
   fetches a quarter of what the right has, and as much for each of `more` */
#define PRODUCT(r)                                                                     \
  case 2 * r: tile_rows(r, 1, &reach, a, line, b, sums, PANEL, &finish, 1); return;    \
  case 2 * r + 1: tile_rows(r, 2, &reach, a, line, b, sums, PANEL, &finish, 1); return;
static void point_product(i64 rows, i64 vectors, i64 depth, const real *a, i64 line, const real *b,
                          int add, real *sums, const real *next, i64 more) {
  struct reach reach = {1, 0, 1, 0, depth, next, more};
  struct finish finish = {.other = add ? sums : NULL};
  switch (2 * rows + vectors - 1) { EACH_HEIGHT(PRODUCT) }
}
#undef PRODUCT

/* The sums of all tiles at one point, and for some channels and vectors. */
static void point_sums(const struct winograd *s, const struct depth_part *part, i64 point,
                       const real *panel, i64 vectors, real *sums) {
  i64 groups = pieces(part->tiles, TILE_ROWS), more = pieces(part->tiles, groups) * s->line * 4;
  more = pieces(more, part->depth * PANEL) - 1;
  const real *values = part->values + point * s->point + max_i64(0, LANES - part->depth);
  for (i64 g = 0; g < groups; g++) {
    i64 row = panel_row(part->tiles, g), rows = panel_row(part->tiles, g + 1) - row;
    const real *left = values + row * s->line;
    point_product(rows, vectors, part->depth, left, s->line, panel, part->add,
                  sums + (point * s->tiles + row) * PANEL, left + s->point, more);
  }
}

/* The sums of many tiles for some channels and the vectors of a panel. half: room for two rows of
   each vector, and panels of two points */
static void panel_sums(const struct winograd *s, const struct depth_part *part, i64 vectors,
                       real *half, real *sums) {
  i64 apart = s->taps * HALVES, across = s->m + 2, depth = part->depth, size = s->taps * PANEL;
  real *made = half + 4 * apart;
  for (int down = 0, rows = 0; down <= PAIRS; down++) {
    for (i64 v = 0; v < vectors; v++)
      rows = some_halves(down, part->taps + v * s->c * TAPS, depth, half + 2 * v * apart, apart);
    for (int i = 0; i < rows; i++)
      for (int right = 0, points = 0; right <= PAIRS; right++) {
        i64 row = first_point(down) + i;
        const real *next = part->next + row * depth * LANES;
        for (i64 v = 0; v < vectors; v++, next += s->c * TAPS)
          points = some_points(right, half + (2 * v + i) * apart, depth, next, made + v * LANES, size);
        for (int j = 0; j < points; j++)
          point_sums(s, part, row * across + first_point(right) + j, made + j * size, vectors, sums);
      }
  }
}
