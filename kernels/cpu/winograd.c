/* Convolution with 3 x 3 taps at stride 1 by Winograd's algorithm F(m x m, 3 x 3).

   The image is cut into tiles of m x m results. Every tile's inputs become n² points, n = m + 2;
   for each point one matrix product, tiles by channels times channels by results; the sums become
   the tile's results. A block of tiles passes through all three steps while it is in the caches. */
#include "panels.h"
#include "transforms.h"

struct winograd {
  i64 n, c, h, w, k;            /* source (n, c, h, w), k results */
  i64 grid_h, grid_w, pad_h, pad_w;
  i64 x_image, x_row, x_column; /* strides of the source; its channels lie together */
  i64 m, down, across;          /* results of a tile's side, tiles of an image */
  i64 tiles, panels, shared;    /* a block; shared: by all threads, each with its own panels */
  i64 line, point;              /* of the points: numbers a tile, numbers a point */
  i64 threads, values, sums;    /* numbers of scratch memory a thread: for points, for sums */
  i64 pooled_h, pooled_w;       /* the grid of y where it is pooled, else 0 */
  i64 pitch;                    /* numbers from a pixel of y to the next */
};

/* The tile counted through the images: its image and its first row and column of results. */
struct spot {
  i64 image, i, j;
};

INLINE struct spot spot_of(const struct winograd *s, i64 tile) {
  i64 within = tile % (s->down * s->across);
  return (struct spot){tile / (s->down * s->across), within / s->across * s->m,
                       within % s->across * s->m};
}

/* The inputs of a tile at the border, with zeros outside of the image: (points, points, c). */
static void copy_tile(const struct winograd *s, const real *x, i64 top, i64 left, i64 points,
                      real *to) {
  for (i64 i = top; i < top + points; i++)
    for (i64 j = left; j < left + points; j++, to += s->c)
      if (i < 0 || j < 0 || i >= s->h || j >= s->w)
        memset(to, 0, s->c * sizeof(real));
      else
        memcpy(to, x + i * s->x_row + j * s->x_column, s->c * sizeof(real));
}

/* The points of a tile's inputs; border: scratch memory for a tile. */
INLINE void input_of(const int m, const struct winograd *s, const real *x, i64 tile, real *values,
                     real *border) {
  enum { MOST = MOST_POINTS * MOST_POINTS };
  const int points = m + 2;
  struct spot spot = spot_of(s, tile);
  i64 top = spot.i - s->pad_h, left = spot.j - s->pad_w, row = s->x_row, column = s->x_column;
  x += spot.image * s->x_image;
  const real *from = x + top * row + left * column;
  if (top < 0 || left < 0 || top + points > s->h || left + points > s->w) {
    copy_tile(s, x, top, left, points, border);
    from = border, column = s->c, row = points * s->c;
  }
  for (i64 next = 0; next < s->c; next += LANES) {
    i64 c = min_i64(next, s->c - LANES); /* the last vector may overlap the one before */
    vec line[MOST_POINTS], half[MOST];
#pragma GCC unroll 8
    for (int i = 0; i < points; i++) {
#pragma GCC unroll 8
      for (int j = 0; j < points; j++) {
        line[j] = load(from + i * row + j * column + c);
        if (j < m) __builtin_prefetch(from + i * row + (j + points) * column + c); /* next tile */
      }
      points_of_input(m, line, 1, half + i * points, 1);
    }
#pragma GCC unroll 8
    for (int j = 0; j < points; j++) {
      points_of_input(m, half + j, points, line, 1);
#pragma GCC unroll 8
      for (int i = 0; i < points; i++) store(values + (i * points + j) * s->point + c, line[i]);
    }
  }
}

/* The columns of one vector of a tile's sums transformed: (m, points). */
INLINE void columns_of(const int m, const real *sums, i64 apart, vec *half) {
  const int points = m + 2;
  vec column[MOST_POINTS];
#pragma GCC unroll 8
  for (int j = 0; j < points; j++) {
#pragma GCC unroll 8
    for (int i = 0; i < points; i++) column[i] = load(sums + (i * points + j) * apart);
    results_of_points(m, column, 1, half + j, points);
  }
}

/* One vector of a tile's results: from the sums to y. */
INLINE void output_vector(const int m, const real *sums, i64 apart, i64 rows, i64 columns,
                          i64 count, real *y, i64 y_row, i64 y_column,
                          const struct finish *finish) {
  const int points = m + 2;
  vec half[MOST_RESULTS * MOST_POINTS], line[MOST_RESULTS], bias = {0};
  if (finish->bias) memcpy(&bias, finish->bias, count * sizeof(real));
  columns_of(m, sums, apart, half);
#pragma GCC unroll 6
  for (int i = 0; i < m; i++)
#pragma GCC unroll 6
    for (int j = 0; j < m; j++) __builtin_prefetch(y + i * y_row + (j + m) * y_column, 1, 3);
#pragma GCC unroll 6
  for (int i = 0; i < m; i++) /* the next tile's place */
#pragma GCC unroll 6
    for (int j = m; j < 2 * m; j++) __builtin_prefetch(y + i * y_row + j * y_column, 1);
#pragma GCC unroll 6
  for (int i = 0; i < m; i++) {
    if (i >= rows) break;
    results_of_points(m, half + i * points, 1, line, 1);
#pragma GCC unroll 6
    for (int j = 0; j < m; j++)
      if (j < columns) finish_vector(line[j] + bias, i * y_row + j * y_column, count, y, finish);
  }
}

/* The same where y has the greatest of each 2 x 2 results; at the end of the grid a window may have
   less. What clamping does to one it does to the greatest. */
INLINE void pooled_vector(const int m, const real *sums, i64 apart, i64 rows, i64 columns,
                          i64 down, i64 across, i64 count, real *y, i64 y_row, i64 y_column,
                          const struct finish *finish) {
  const int points = m + 2;
  vec half[MOST_RESULTS * MOST_POINTS], upper[MOST_RESULTS], lower[MOST_RESULTS], bias = {0};
  if (finish->bias) memcpy(&bias, finish->bias, count * sizeof(real));
  columns_of(m, sums, apart, half);
#pragma GCC unroll 3
  for (int i = 0; i < m / 2; i++) {
    if (i >= down) break;
    results_of_points(m, half + 2 * i * points, 1, upper, 1);
    if (2 * i + 1 < rows) {
      results_of_points(m, half + (2 * i + 1) * points, 1, lower, 1);
#pragma GCC unroll 6
      for (int j = 0; j < m; j++) upper[j] = greater_or_none(upper[j], lower[j]);
    }
#pragma GCC unroll 3
    for (int j = 0; j < m / 2; j++) {
      if (j >= across) break;
      vec v = upper[2 * j];
      if (2 * j + 1 < columns) v = greater_or_none(v, upper[2 * j + 1]);
      finish_vector(v + bias, i * y_row + j * y_column, count, y, finish);
    }
  }
}

/* The results of a tile for one panel, whose first channel is `channel`, pooled. */
INLINE void pooled_of(const int m, const struct winograd *s, const real *sums, i64 tile,
                      i64 channel, real *y, const struct finish *finish) {
  struct spot spot = spot_of(s, tile);
  i64 rows = min_i64(m, s->grid_h - spot.i), columns = min_i64(m, s->grid_w - spot.j);
  i64 i = spot.i / 2, j = spot.j / 2, row = s->pooled_w * s->pitch;
  y += ((spot.image * s->pooled_h + i) * s->pooled_w + j) * s->pitch;
  for (i64 k = channel; k < min_i64(channel + PANEL, s->k); k += LANES) {
    struct finish here = finish_at(finish, k, 0);
    pooled_vector(m, sums + k - channel, s->tiles * PANEL, rows, columns, s->pooled_h - i,
                  s->pooled_w - j, min_i64(LANES, s->k - k), y + k, row, s->pitch, &here);
  }
}

/* The results of a tile for one panel, whose first channel is `channel`. */
INLINE void output_of(const int m, const struct winograd *s, const real *sums, i64 tile,
                      i64 channel, real *y, const struct finish *finish) {
  struct spot spot = spot_of(s, tile);
  i64 rows = min_i64(m, s->grid_h - spot.i), columns = min_i64(m, s->grid_w - spot.j);
  i64 pixel = (spot.image * s->grid_h + spot.i) * s->grid_w + spot.j;
  for (i64 l = 0; l < PANEL && channel + l < s->k; l += LANES) {
    i64 offset = pixel * s->pitch + channel + l;
    struct finish here = finish_at(finish, channel + l, offset);
    output_vector(m, sums + l, s->tiles * PANEL, rows, columns, min_i64(LANES, s->k - channel - l),
                  y + offset, s->grid_w * s->pitch, s->pitch, &here);
  }
}

static void input(const struct winograd *s, const real *x, i64 tile, real *values, real *border) {
  switch (s->m) {
    case 2: input_of(2, s, x, tile, values, border); return;
    case 4: input_of(4, s, x, tile, values, border); return;
    default: input_of(6, s, x, tile, values, border); return;
  }
}

static void output(const struct winograd *s, const real *sums, i64 tile, i64 channel, real *y,
                   const struct finish *finish) {
  switch (s->pooled_h ? -s->m : s->m) {
    case -2: pooled_of(2, s, sums, tile, channel, y, finish); return;
    case -4: pooled_of(4, s, sums, tile, channel, y, finish); return;
    case -6: pooled_of(6, s, sums, tile, channel, y, finish); return;
    case 2: output_of(2, s, sums, tile, channel, y, finish); return;
    case 4: output_of(4, s, sums, tile, channel, y, finish); return;
    default: output_of(6, s, sums, tile, channel, y, finish); return;
  }
}

/* sums (rows, PANEL) = values (rows, depth) right (depth, PANEL); fetches a piece of `next` */
#define PRODUCT(r)                                                                       \
  case 2 * r: tile_rows(r, 1, &reach, a, line, b, sums, PANEL, &plain); return;          \
  case 2 * r + 1: tile_rows(r, 2, &reach, a, line, b, sums, PANEL, &plain); return;
static void point_product(i64 rows, i64 vectors, i64 depth, const real *a, i64 line,
                          const real *b, real *sums, const real *next) {
  struct reach reach = {1, 0, 1, 0, depth, next};
  struct finish plain = {0};
  switch (2 * rows + vectors - 1) { EACH_HEIGHT(PRODUCT) }
}
#undef PRODUCT

/* Products and results of `count` tiles from `first` on, for the panels from `panel` to `till`. */
static void panels_of(const struct winograd *s, const real *values, const real *w, real *sums,
                      i64 first, i64 count, i64 panel, i64 till, real *y,
                      const struct finish *finish) {
  i64 points = (s->m + 2) * (s->m + 2), matrix = s->tiles * PANEL, groups = pieces(count, TILE_ROWS);
  i64 size = s->c * PANEL;
  for (i64 e = 0; e < points; e++)
    for (i64 p = panel; p < till; p++) {
      const real *right = w + (p * points + e) * size;
      const real *next = p + 1 < till ? right + points * size : w + (panel * points + e + 1) * size;
      real *to = sums + ((p - panel) * points + e) * matrix;
      i64 vectors = min_i64(pieces(s->k - p * PANEL, LANES), 2);
      for (i64 g = 0; g < groups; g++) {
        i64 row = panel_row(count, g), rows = panel_row(count, g + 1) - row;
        point_product(rows, vectors, s->c, values + e * s->point + row * s->line, s->line, right,
                      to + row * PANEL, next + g * (size / 4));
      }
    }
  for (i64 t = 0; t < count; t++)
    for (i64 p = panel; p < till; p++)
      output(s, sums + (p - panel) * points * matrix + t * PANEL, first + t, p * PANEL, y, finish);
}

/* Each thread takes blocks of tiles. */
static void blocks_by_thread(const struct winograd *s, const real *x, const real *w, real *y,
                             const struct finish *finish, real *work) {
  i64 all = s->n * s->down * s->across, panels = pieces(s->k, PANEL);
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
  for (i64 first = 0; first < all; first += s->tiles) {
    real *values = work + omp_get_thread_num() * (s->values + s->sums), *sums = values + s->values;
    i64 count = min_i64(s->tiles, all - first);
    for (i64 t = 0; t < count; t++) input(s, x, first + t, values + t * s->line, sums);
    for (i64 p = 0; p < panels; p += s->panels)
      panels_of(s, values, w, sums, first, count, p, min_i64(panels, p + s->panels), y, finish);
  }
}

/* All threads share the points of a block, and take panels of results. */
static void blocks_shared(const struct winograd *s, const real *x, const real *w, real *y,
                          const struct finish *finish, real *work) {
  i64 all = s->n * s->down * s->across, panels = pieces(s->k, PANEL);
#pragma omp parallel num_threads(s->threads)
  for (i64 first = 0; first < all; first += s->tiles) {
    real *values = work, *sums = work + s->values + omp_get_thread_num() * s->sums;
    i64 count = min_i64(s->tiles, all - first);
#pragma omp for schedule(dynamic, 2)
    for (i64 t = 0; t < count; t++) input(s, x, first + t, values + t * s->line, sums);
#pragma omp for schedule(dynamic)
    for (i64 p = 0; p < panels; p += s->panels)
      panels_of(s, values, w, sums, first, count, p, min_i64(panels, p + s->panels), y, finish);
  }
}

/* y = clamp(w * x + b + other, low, high), or the greatest of each 2 x 2 of clamp(w * x + b, …);
   w transformed; y and other are channels-last */
void KERNEL(winograd)(const real *x, const real *w, const real *b, const real *other, real *y,
                      const i64 *shape, const real *range, real *work) {
  const struct winograd *s = (const struct winograd *)shape;
  struct finish finish = finish_of(b, other, range);
  if (s->shared)
    blocks_shared(s, x, w, y, &finish, work);
  else
    blocks_by_thread(s, x, w, y, &finish, work);
}

/* The points of the taps of one vector of results, for `count` sources: from (9, count, PANEL) to
   points that are `apart`. */
INLINE void taps_of(const int m, const real *packed, i64 count, real *to, i64 apart) {
  const int points = m + 2;
  for (i64 i = 0; i < count; i++, packed += PANEL, to += PANEL) {
    vec line[MOST_POINTS], half[3 * MOST_POINTS];
    for (int p = 0; p < 3; p++) {
      for (int q = 0; q < 3; q++) line[q] = load(packed + (p * 3 + q) * count * PANEL);
      points_of_taps(m, line, 1, half + p * points, 1);
    }
    for (int j = 0; j < points; j++) {
      points_of_taps(m, half + j, points, line, 1);
      for (int i = 0; i < points; i++) store(to + (i * points + j) * apart, line[i]);
    }
  }
}

/* to (panels, points, ins, PANEL). Both halves of a panel for a few sources at a time, so that
   whole lines of the cache are written. */
void KERNEL(winograd_weights)(const real *w, real *to, const i64 *shape, i64 m) {
  const struct packing *all = (const struct packing *)shape;
  i64 points = (m + 2) * (m + 2), apart = all->ins * PANEL, panels = pieces(all->outs, PANEL);
#pragma omp parallel for schedule(dynamic) if (points * apart * panels > PARALLEL_ABOVE)
  for (i64 panel = 0; panel < panels; panel++)
    for (i64 first = 0; first < all->ins; first += SOURCES) {
      struct packing some = *all;
      some.ins = min_i64(SOURCES, all->ins - first);
      for (i64 half = 0; half < PANEL; half += LANES) {
        real packed[9 * SOURCES * PANEL];
        real *at = to + (panel * points * all->ins + first) * PANEL + half;
        pack_half(&some, w + all->first + first * all->in, panel * PANEL + half, 0, some.ins, packed);
        if (m == 2) taps_of(2, packed, some.ins, at, apart);
        if (m == 4) taps_of(4, packed, some.ins, at, apart);
        if (m == 6) taps_of(6, packed, some.ins, at, apart);
      }
    }
}
