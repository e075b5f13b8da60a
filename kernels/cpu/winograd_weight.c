/* The gradient of 3 x 3 weights by Winograd's algorithm, run backwards: for each point the product,
   over the tiles, of the points of dy with those of the inputs; the sums become taps at the end. */

enum { SPREAD = 16 };

/* The points of a tile of dy, zero outside of the grid. */
INLINE void gradient_of(const int m, const struct winograd *s, const real *dy, i64 tile,
                        i64 point, real *values) {
  const int points = m + 2;
  struct spot spot = spot_of(s, tile);
  i64 rows = min_i64(m, s->grid_h - spot.i), columns = min_i64(m, s->grid_w - spot.j);
  dy += ((spot.image * s->grid_h + spot.i) * s->grid_w + spot.j) * s->k;
  for (i64 next = 0; next < s->k; next += LANES) {
    i64 k = min_i64(next, s->k - LANES); /* the last vector may overlap the one before */
    vec line[MOST_POINTS], half[MOST_POINTS * MOST_RESULTS];
#pragma GCC unroll 6
    for (int i = 0; i < m; i++) {
#pragma GCC unroll 6
      for (int j = 0; j < m; j++)
        line[j] = i < rows && j < columns ? load(dy + (i * s->grid_w + j) * s->k + k) : (vec){0};
      points_of_results(m, line, 1, half + i * points, 1);
    }
#pragma GCC unroll 8
    for (int j = 0; j < points; j++) {
      points_of_results(m, half + j, points, line, 1);
#pragma GCC unroll 8
      for (int i = 0; i < points; i++) store(values + (i * points + j) * point + k, line[i]);
    }
  }
}

static void gradient(const struct winograd *s, const real *dy, i64 tile, i64 point, real *values) {
  switch (s->m) {
    case 2: gradient_of(2, s, dy, tile, point, values); return;
    case 4: gradient_of(4, s, dy, tile, point, values); return;
    default: gradient_of(6, s, dy, tile, point, values); return;
  }
}

/* dw (k, c, 3, 3) += the taps of the sums (points, panels, k, PANEL), for one panel of channels.
   Numbers between the points keep their lines apart in the caches. */
INLINE void add_taps(const int m, const struct winograd *s, const real *sums, i64 matrix,
                     i64 panel, real *dw) {
  const int points = m + 2;
  for (i64 k = 0; k < s->k; k++)
    for (i64 c = panel * PANEL; c < min_i64(s->c, (panel + 1) * PANEL); c += LANES) {
      const real *from = sums + (panel * s->k + k) * PANEL + c % PANEL;
      vec line[MOST_POINTS], half[3 * MOST_POINTS], taps[9];
      for (int i = 0; i < points; i++) {
        for (int j = 0; j < points; j++) line[j] = load(from + (i * points + j) * matrix);
        taps_of_points(m, line, 1, half + i, points);
      }
      for (int q = 0; q < 3; q++) taps_of_points(m, half + q * points, 1, taps + q, 3);
      const real *tap = (const real *)taps;
      real *to = dw + (k * s->c + c) * 9;
      for (i64 l = 0; l < min_i64(LANES, s->c - c); l++)
        for (int t = 0; t < 9; t++) to[l * 9 + t] += tap[t * LANES + l];
    }
}

/* dw += Σ dy x        dy channels-last; `parts`: of the results, for a product; work: points of
   inputs, points of dy, `threads` tiles of the border, sums */
void KERNEL(winograd_weight)(const real *x, const real *dy, real *dw, const i64 *shape, i64 parts,
                             real *work) {
  const struct winograd *s = (const struct winograd *)shape;
  i64 points = (s->m + 2) * (s->m + 2), all = s->n * s->down * s->across;
  i64 panels = pieces(s->c, PANEL), groups = pieces(s->k, TILE_ROWS), point = s->tiles * s->k;
  i64 matrix = panels * s->k * PANEL + SPREAD;
  real *gradients = work + s->values, *borders = gradients + points * point;
  real *sums = borders + s->threads * points * s->c;
#pragma omp parallel num_threads(s->threads)
  {
    real *border = borders + omp_get_thread_num() * points * s->c;
    for (i64 first = 0; first < all; first += s->tiles) {
      i64 count = min_i64(s->tiles, all - first);
#pragma omp for schedule(dynamic, 2)
      for (i64 t = 0; t < count; t++) {
        input(s, x, first + t, work + t * s->line, border);
        gradient(s, dy, first + t, point, gradients + t * s->k);
      }
#pragma omp for schedule(dynamic)
      for (i64 task = 0; task < points * panels * parts; task++) {
        i64 part = task % parts, panel = task / parts % panels, e = task / parts / panels;
        i64 vectors = min_i64(pieces(s->c - panel * PANEL, LANES), 2);
        real *to = sums + e * matrix + panel * s->k * PANEL;
        struct runs r = {.lines = 1, .count = count, .left_step = s->k, .right_step = s->line,
                         .right = work + e * s->point + panel * PANEL};
        for (i64 g = groups * part / parts; g < groups * (part + 1) / parts; g++) {
          i64 row = panel_row(s->k, g), rows = panel_row(s->k, g + 1) - row;
          r.left = gradients + e * point + row;
          outer_tile(rows, vectors, r, (struct stream){r.left, 0, 1}, first > 0, to + row * PANEL,
                     PANEL);
        }
      }
    }
#pragma omp for schedule(dynamic)
    for (i64 panel = 0; panel < panels; panel++)
      switch (s->m) {
        case 2: add_taps(2, s, sums, matrix, panel, dw); break;
        case 4: add_taps(4, s, sums, matrix, panel, dw); break;
        default: add_taps(6, s, sums, matrix, panel, dw); break;
      }
  }
}
