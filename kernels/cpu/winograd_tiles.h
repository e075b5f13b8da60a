/* Winograd's convolution, tile by tile: from the image to the points, from the sums to the results.
   See winograd.c. */
#pragma once
#include "panels.h"
#include "transforms.h"

struct winograd {
  i64 n, c, h, w, k;            /* source (n, c, h, w), k results */
  i64 grid_h, grid_w, pad_h, pad_w;
  i64 x_image, x_row, x_column; /* strides of the source; its channels lie together */
  i64 m, down, across;          /* results of a tile's side, tiles of an image */
  i64 side;                     /* 2 where squares of 2 x 2 tiles are pooled, each being odd; else 1 */
  i64 tiles, panels, parted;    /* a block, see below */
  i64 depth;                    /* of so many channels the points lie together */
  i64 line, point, part;        /* of the points: numbers a tile, a point, and for these channels */
  i64 taps;                     /* channels summed at a time where the weights are taps, or 0 */
  i64 threads, values, sums;    /* numbers of scratch memory a thread: for points, for sums */
  i64 pooled_h, pooled_w;       /* the grid of y where it is pooled, else 0 */
  i64 pitch;                    /* numbers from a pixel of y to the next */
};

/* What a task is: a block (BY_BLOCKS); or some panels of it, its points being made by each thread that
   takes one (BY_PANELS), or by all threads together (SHARED). */
enum { BY_BLOCKS, BY_PANELS, SHARED };

/* The tile counted through the images and their squares of tiles: its image and its first row and
   column of results. */
struct spot {
  i64 image, i, j;
};

INLINE struct spot spot_of(const struct winograd *s, i64 tile) {
  i64 within = tile % (s->down * s->across), together = s->side * s->side;
  i64 square = within / together, squares = s->across / s->side;
  within %= together;
  return (struct spot){tile / (s->down * s->across),
                       (square / squares * s->side + within / s->side) * s->m,
                       (square % squares * s->side + within % s->side) * s->m};
}

/* Which rows and columns of a tile are there, a bit each; those outside of the image are 0. */
struct inside {
  unsigned rows, columns;
};

/* Of `points` from `first` on, those of `size`. */
INLINE unsigned bits_inside(i64 first, i64 points, i64 size) {
  unsigned low = (1u << max_i64(-first, 0)) - 1, all = (1u << points) - 1;
  return all >> max_i64(first + points - size, 0) & ~low;
}

INLINE int is_inside(struct inside part, int i, int j) {
  return part.rows >> i & part.columns >> j & 1;
}

/* The points of one vector of a tile's inputs, `apart` from each other; what the next tile reads
   of these channels is fetched. The compiler would compute all addresses before the loop over the
   channels, and spill them: it must not see through the pointers. */
INLINE void input_vector(const int m, const int whole, struct inside part, const real *from,
                         i64 row, i64 column, i64 apart, real *to) {
  const int points = m + 2;
  vec line[MOST_POINTS], half[MOST_POINTS * MOST_POINTS];
#pragma GCC unroll 9
  for (int j = 0; j < points; j++) {
    const real *at = from;
#pragma GCC unroll 9
    for (int i = 0; i < points; i++, at += row) {
      line[i] = whole || is_inside(part, i, j) ? load(at) : (vec){0};
      if (j < m) __builtin_prefetch(at + points * column);
    }
    points_of_input(m, line, 1, half + j, points);
    from += column;
    OPAQUE(from);
  }
#pragma GCC unroll 9
  for (int i = 0; i < points; i++) {
    points_of_input(m, half + i * points, 1, line, 1);
#pragma GCC unroll 9
    for (int j = 0; j < points; j++, to += apart) store(to, line[j]);
    OPAQUE(to);
  }
}

/* What a tile reads begins at `from`; whole: all of it is in the image. */
struct reading {
  const real *from;
  int whole;
  struct inside part;
};

INLINE struct reading reading_of(const int m, const struct winograd *s, const real *x, i64 tile) {
  struct spot spot = spot_of(s, tile);
  i64 top = spot.i - s->pad_h, left = spot.j - s->pad_w;
  struct inside part = {bits_inside(top, m + 2, s->h), bits_inside(left, m + 2, s->w)};
  int whole = part.rows == (1u << (m + 2)) - 1 && part.columns == part.rows;
  const real *from = x + spot.image * s->x_image + top * s->x_row + left * s->x_column;
  return (struct reading){from, whole, part};
}

/* The points of a tile's inputs, to (parts, points, tiles, line). The last vector may overlap the one
   before; the channels of a part that has fewer than a vector of them are at its end. */
INLINE void input_of(const int m, const struct winograd *s, const real *x, i64 tile, real *values) {
  struct reading at = reading_of(m, s, x, tile);
  i64 row = s->x_row, column = s->x_column;
  for (i64 part = 0; part < s->c; part += s->depth, values += s->part)
    for (i64 next = part; next < min_i64(part + s->depth, s->c); next += LANES) {
      i64 c = min_i64(next, s->c - LANES);
      real *to = values + max_i64(0, c - part);
      if (at.whole)
        input_vector(m, 1, at.part, at.from + c, row, column, s->point, to);
      else
        input_vector(m, 0, at.part, at.from + c, row, column, s->point, to);
    }
}

/* The columns of one vector of a tile's sums transformed: (m, points). */
INLINE void columns_of(const int m, const real *sums, i64 apart, vec *half) {
  const int points = m + 2;
  vec column[MOST_POINTS];
#pragma GCC unroll 9
  for (int j = 0; j < points; j++) {
#pragma GCC unroll 9
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
#pragma GCC unroll 7
  for (int i = 0; i < m; i++) {
#pragma GCC unroll 7
    for (int j = m; j < 2 * m; j++) /* the next tile's place */
      __builtin_prefetch(y + i * y_row + j * y_column, 1);
    if (i >= rows) break;
    results_of_points(m, half + i * points, 1, line, 1);
#pragma GCC unroll 7
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
#pragma GCC unroll 7
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

/* The same for a square of 2 x 2 tiles, since the windows at their borders need several. */
INLINE void square_vector(const int m, const real *sums, i64 apart, i64 rows, i64 columns,
                          i64 down, i64 across, i64 count, real *y, i64 y_row, i64 y_column,
                          const struct finish *finish) {
  const int points = m + 2;
  vec half[MOST_RESULTS * MOST_POINTS], bias = {0};
  vec result[2 * MOST_RESULTS][2 * MOST_RESULTS];
  if (finish->bias) memcpy(&bias, finish->bias, count * sizeof(real));
  for (int tile = 0; tile < 4; tile++, sums += PANEL) {
    columns_of(m, sums, apart, half);
#pragma GCC unroll 7
    for (int i = 0; i < m; i++)
      results_of_points(m, half + i * points, 1, result[tile / 2 * m + i] + tile % 2 * m, 1);
  }
  for (int i = 0; i < min_i64(m, down); i++)
    for (int j = 0; j < min_i64(m, across); j++) {
      const vec *upper = result[2 * i] + 2 * j, *lower = result[2 * i + 1] + 2 * j;
      int more = 2 * j + 1 < columns;
      vec v = more ? greater_or_none(upper[0], upper[1]) : upper[0];
      if (2 * i + 1 < rows) {
        v = greater_or_none(v, lower[0]);
        if (more) v = greater_or_none(v, lower[1]);
      }
      finish_vector(v + bias, i * y_row + j * y_column, count, y, finish);
    }
}

/* The results of a tile, or of a square of tiles, for one panel, whose first channel is `channel`,
   pooled. */
INLINE void pooled_of(const int m, const struct winograd *s, const real *sums, i64 tile,
                      i64 channel, real *y, const struct finish *finish) {
  struct spot spot = spot_of(s, tile);
  i64 rows = s->grid_h - spot.i, columns = s->grid_w - spot.j, apart = s->tiles * PANEL;
  i64 i = spot.i / 2, j = spot.j / 2, row = s->pooled_w * s->pitch;
  y += ((spot.image * s->pooled_h + i) * s->pooled_w + j) * s->pitch;
  for (i64 k = channel; k < min_i64(channel + PANEL, s->k); k += LANES) {
    struct finish here = finish_at(finish, k, 0);
    i64 count = min_i64(LANES, s->k - k);
    (m % 2 ? square_vector : pooled_vector)(m, sums + k - channel, apart, rows, columns,
                                            s->pooled_h - i, s->pooled_w - j, count, y + k, row,
                                            s->pitch, &here);
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

static void input(const struct winograd *s, const real *x, i64 tile, real *values) {
  switch (s->m) {
    case 2: input_of(2, s, x, tile, values); return;
    case 4: input_of(4, s, x, tile, values); return;
    case 6: input_of(6, s, x, tile, values); return;
    default: input_of(7, s, x, tile, values); return;
  }
}

static void output(const struct winograd *s, const real *sums, i64 tile, i64 channel, real *y,
                   const struct finish *finish) {
  switch (s->pooled_h ? -s->m : s->m) {
    case -2: pooled_of(2, s, sums, tile, channel, y, finish); return;
    case -4: pooled_of(4, s, sums, tile, channel, y, finish); return;
    case -6: pooled_of(6, s, sums, tile, channel, y, finish); return;
    case -7: pooled_of(7, s, sums, tile, channel, y, finish); return;
    case 2: output_of(2, s, sums, tile, channel, y, finish); return;
    case 4: output_of(4, s, sums, tile, channel, y, finish); return;
    case 6: output_of(6, s, sums, tile, channel, y, finish); return;
    default: output_of(7, s, sums, tile, channel, y, finish); return;
  }
}
