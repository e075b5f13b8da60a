/* Convolution with 3 x 3 taps at stride 1 by Winograd's algorithm F(m x m, 3 x 3).

   The image is cut into tiles of m x m results. Every tile's inputs become n² points, n = m + 2;
   for each point one matrix product, tiles by channels times channels by results; the sums become
   the tile's results. A block of tiles passes through all three steps while it is in the caches. The
   weights are points before, or, where these are too many, become points beside the products. */
#include "queues.h"
#include "winograd_taps.h"

/* The points of the taps of half a panel for `count` sources: from (9, …, PANEL), `tap` apart, to
   (points, …, PANEL), `point` apart. */
INLINE void taps_of(const int m, const real *packed, i64 tap, i64 count, real *to, i64 point) {
  const int points = m + 2;
  for (i64 i = 0; i < count; i++, packed += PANEL, to += PANEL) {
    vec column[3], half[3 * MOST_POINTS], line[MOST_POINTS];
#pragma GCC unroll 3
    for (int q = 0; q < 3; q++) {
#pragma GCC unroll 3
      for (int p = 0; p < 3; p++) column[p] = load(packed + (p * 3 + q) * tap);
      points_of_taps(m, column, 1, half + q, 3);
    }
    real *at = to;
    for (i64 r = 0; r < points; r++) {
      points_of_taps(m, half + r * 3, 1, line, 1);
#pragma GCC unroll 9
      for (int j = 0; j < points; j++, at += point) store(at, line[j]);
    }
  }
}

/* The same of both halves. */
static void panel_points(i64 m, const real *packed, i64 tap, i64 count, real *to, i64 point) {
  for (i64 half = 0; half < PANEL; half += LANES, packed += LANES, to += LANES)
    switch (m) {
      case 2: taps_of(2, packed, tap, count, to, point); break;
      case 4: taps_of(4, packed, tap, count, to, point); break;
      case 6: taps_of(6, packed, tap, count, to, point); break;
      default: taps_of(7, packed, tap, count, to, point);
    }
}

/* What is fetched into the second-level cache while products are computed: row by row what the
   tiles from `tile` to `till` will read. */
struct coming {
  const real *x, *from;
  i64 tile, till, row;
};

INLINE void fetch_row(const struct winograd *s, struct coming *coming) {
  if (coming->tile >= coming->till) return;
  if (coming->row == 0) {
    struct spot spot = spot_of(s, coming->tile);
    i64 top = max_i64(spot.i - s->pad_h, 0), left = max_i64(spot.j - s->pad_w, 0);
    coming->from = coming->x + spot.image * s->x_image + top * s->x_row + left * s->x_column;
  }
  for (i64 i = 0; i < s->m * s->x_column; i += 64 / sizeof(real))
    __builtin_prefetch(coming->from + i, 0, 2);
  coming->from += s->x_row;
  if (++coming->row == s->m + 2) coming->row = 0, coming->tile++;
}

/* The sums of `count` tiles for the panels from `panel` to `till`, whose weights are points. */
static void sums_by_points(const struct winograd *s, const real *values, const real *w, i64 count,
                           i64 panel, i64 till, real *sums, struct coming *coming) {
  i64 points = (s->m + 2) * (s->m + 2), matrix = s->tiles * PANEL, groups = pieces(count, TILE_ROWS);
  i64 size = s->c * PANEL, part = pieces(4, groups); /* quarters that a product fetches */
  for (i64 e = 0; e < points; e++)
    for (i64 p = panel; p < till; p++) {
      const real *right = w + (p * points + e) * size;
      const real *next = p + 1 < till ? right + points * size : w + (panel * points + e + 1) * size;
      real *to = sums + ((p - panel) * points + e) * matrix;
      i64 vectors = min_i64(pieces(s->k - p * PANEL, LANES), 2);
      fetch_row(s, coming);
      for (i64 g = 0; g < groups; g++) {
        i64 row = panel_row(count, g), rows = panel_row(count, g + 1) - row;
        point_product(rows, vectors, s->c, values + e * s->point + row * s->line, s->line, right, 0,
                      to + row * PANEL, next + g * part * (size / 4), part - 1);
      }
    }
}

/* The same where the weights are taps: (panels, 2, c, 9, LANES). */
static void sums_by_taps(const struct winograd *s, const real *values, const real *w, i64 count,
                         i64 panel, i64 till, real *sums, struct coming *coming) {
  i64 size = (s->m + 2) * (s->m + 2) * s->tiles * PANEL, few = s->depth == LANES;
  real *half = sums + s->panels * size;
  for (i64 p = panel; p < till; p++, sums += size) {
    i64 vectors = min_i64(pieces(s->k - p * PANEL, LANES), 2);
    for (i64 v = 0; v < vectors; v += few ? 1 : 2)
      for (i64 c = 0; c < s->c; c += s->taps) {
        const real *taps = w + ((2 * p + v) * s->c + c) * TAPS;
        struct depth_part part = {
            values + c / s->depth * s->part, taps, taps + s->taps * TAPS, count,
            min_i64(s->taps, s->c - c), c > 0};
        fetch_row(s, coming);
        if (few)
          vector_sums(s, &part, half, sums + v * LANES);
        else
          panel_sums(s, &part, vectors, half, sums);
      }
  }
}

/* Products and results of `count` tiles from `first` on, for the panels from `panel` to `till`. */
static void panels_of(const struct winograd *s, const real *values, const real *w, real *sums,
                      i64 first, i64 count, i64 panel, i64 till, real *y,
                      const struct finish *finish, struct coming *coming) {
  i64 size = (s->m + 2) * (s->m + 2) * s->tiles * PANEL; /* of a panel's sums */
  (s->taps ? sums_by_taps : sums_by_points)(s, values, w, count, panel, till, sums, coming);
  for (i64 t = 0; t < count; t += s->side * s->side)
    for (i64 p = panel; p < till; p++)
      output(s, sums + (p - panel) * size + t * PANEL, first + t, p * PANEL, y, finish);
}

/* Each thread takes blocks of tiles, or of some panels each: it makes the points of a block itself,
   for what another one made would have to come from that one's caches. */
static void blocks_by_thread(const struct winograd *s, const real *x, const real *w, real *y,
                             const struct finish *finish, real *work) {
  i64 all = s->n * s->down * s->across, panels = pieces(s->k, PANEL);
  i64 parts = s->parted == BY_PANELS ? pieces(panels, s->panels) : 1, each = pieces(panels, parts);
  i64 together = s->side * s->side, blocks = pieces(all, s->tiles);
  struct queues queues;
  fill_queues(&queues, s->threads, blocks * parts);
#pragma omp parallel num_threads(s->threads)
  for (i64 task, ended = 0, made = -1; (task = next_task(&queues, &ended)) >= 0;) {
    real *values = work + omp_get_thread_num() * (s->values + s->sums), *sums = values + s->values;
    i64 block = task / parts, from = task % parts * each, till = min_i64(panels, from + each);
    i64 first = all / together * block / blocks * together;
    i64 ahead = all / together * (block + 1) / blocks * together, count = ahead - first;
    struct coming coming = {.x = x, .tile = ahead, .till = min_i64(all, ahead + count)};
    for (i64 t = 0; t < count && block != made; t++)
      input(s, x, first + t, values + t * s->line);
    made = block;
    for (i64 p = from; p < till; p += s->panels)
      panels_of(s, values, w, sums, first, count, p, min_i64(till, p + s->panels), y, finish,
                &coming);
  }
}

/* All threads share the points of a block, and take panels of results. */
static void blocks_shared(const struct winograd *s, const real *x, const real *w, real *y,
                          const struct finish *finish, real *work) {
  i64 all = s->n * s->down * s->across, panels = pieces(s->k, PANEL);
  struct queues queues;
#pragma omp parallel num_threads(s->threads)
  for (i64 first = 0; first < all; first += s->tiles) {
    real *values = work, *sums = work + s->values + omp_get_thread_num() * s->sums;
    i64 count = min_i64(s->tiles, all - first), ended = 0, task;
    struct coming nothing = {0};
#pragma omp single nowait
    fill_queues(&queues, s->threads, pieces(panels, s->panels));
#pragma omp for schedule(static)
    for (i64 t = 0; t < count; t++) input(s, x, first + t, values + t * s->line);
    while ((task = next_task(&queues, &ended)) >= 0) {
      i64 p = task * s->panels;
      panels_of(s, values, w, sums, first, count, p, min_i64(panels, p + s->panels), y, finish,
                &nothing);
    }
#pragma omp barrier
  }
}

/* y = clamp(w * x + b + other, low, high), or the greatest of each 2 x 2 of clamp(w * x + b, …);
   w are points, or taps where rows of points are made of them; y and other are channels-last */
void KERNEL(winograd)(const real *x, const real *w, const real *b, const real *other, real *y,
                      const i64 *shape, const real *range, real *work) {
  const struct winograd *s = (const struct winograd *)shape;
  struct finish finish = finish_of(b, other, range);
  if (s->parted == SHARED)
    blocks_shared(s, x, w, y, &finish, work);
  else
    blocks_by_thread(s, x, w, y, &finish, work);
}

enum { INPUTS = 8 }; /* whose points are made in one go: those of more would not stay in the cache */

/* to (panels, points, ins, PANEL). The points of a few sources are made side by side, so that whole
   lines are copied to where they belong. */
void KERNEL(winograd_weights)(const real *w, real *to, const i64 *shape, i64 m) {
  const struct packing *all = (const struct packing *)shape;
  i64 points = (m + 2) * (m + 2), apart = all->ins * PANEL, panels = pieces(all->outs, PANEL);
  const int far = at_line(to);
#pragma omp parallel for schedule(static) if (points * apart * panels > PARALLEL_ABOVE)
  for (i64 panel = 0; panel < panels; panel++) {
    for (i64 first = 0; first < all->ins; first += INPUTS) {
      real packed[9 * INPUTS * PANEL], made[MOST_POINTS * MOST_POINTS * INPUTS * PANEL];
      struct packing some = *all;
      some.ins = min_i64(INPUTS, all->ins - first);
      for (i64 half = 0; half < PANEL; half += LANES)
        pack_half(&some, w + all->first + first * all->in, panel * PANEL + half, 0, some.ins,
                  packed + half);
      panel_points(m, packed, some.ins * PANEL, some.ins, made, INPUTS * PANEL);
      real *at = to + panel * points * apart + first * PANEL;
      for (i64 e = 0; e < points; e++)
        for (i64 l = 0; l < some.ins * PANEL; l += LANES)
          put(far, at + e * apart + l, load(made + e * INPUTS * PANEL + l));
    }
    streamed();
  }
}

/* to (panels, 2, ins, 9, LANES), the taps of a source and a vector of results lying together */
void KERNEL(winograd_taps)(const real *w, real *to, const i64 *shape) {
  const struct packing *all = (const struct packing *)shape;
  i64 halves = 2 * pieces(all->outs, PANEL);
#pragma omp parallel for schedule(static) if (halves * all->ins > PARALLEL_ABOVE / TAPS)
  for (i64 half = 0; half < halves; half++)
    for (i64 first = 0; first < all->ins; first += INPUTS) {
      real packed[INPUTS * 9 * PANEL], *at = to + (half * all->ins + first) * TAPS;
      struct packing some = *all;
      some.ins = min_i64(INPUTS, all->ins - first);
      pack_half(&some, w + all->first + first * all->in, half * LANES, 0, some.ins, packed);
      for (i64 i = 0; i < some.ins; i++)
        for (i64 t = 0; t < 9; t++, at += LANES)
          store(at, load(packed + (t * some.ins + i) * PANEL));
    }
}
