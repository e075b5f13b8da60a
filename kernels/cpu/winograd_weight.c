/* The gradient of 3 x 3 weights by Winograd's algorithm, run backwards: for each point the product,
   over the tiles, of the points of dy with those of the inputs; its sums become the taps'.

   A block of tiles is transformed into packed factors: of the inputs panels of vectors of channels,
   of dy groups of results. A group by a panel is one tile of registers for each point; the sums of
   all points, of a few groups, stay in a thread's own caches until they are taps. */
#include "outer_product.h"
#include "queues.h"
#include "winograd_tiles.h"

/* What a block's factors need: numbers from one point to the next, and of a panel or a group. One
   more line of the cache keeps points from fighting for the same ones. */
struct factors {
  i64 right_point, right, left_point, left;
};

static struct factors factors_of(const struct winograd *s) {
  i64 points = (s->m + 2) * (s->m + 2), right = (s->tiles + 1) * PANEL;
  i64 left = s->tiles * LEFT_PITCH + PANEL;
  return (struct factors){right, points * right, left, points * left};
}

/* The first channel of a vector of so many: the last one overlaps that before. */
INLINE i64 channel_of(i64 vector, i64 channels) {
  return min_i64(vector * LANES, channels - LANES);
}

/* The first number of a group's left factor, whose LEFT_PITCH numbers end with the last result. */
INLINE i64 left_row(const struct winograd *s, i64 group) {
  return min_i64(panel_row(s->k, group), s->k - LEFT_PITCH);
}

/* Fetch the place of the next tile's points. */
INLINE void fetch_place(const int points, const real *to, i64 apart) {
#pragma GCC unroll 9
  for (int i = 0; i < points * points; i++, to += apart) __builtin_prefetch(to, 1);
}

/* The points of a tile's inputs to (panels, points, tiles, PANEL), from its place there on. */
INLINE void right_of(const int m, const struct winograd *s, const struct factors *f, const real *x,
                     i64 tile, real *to) {
  struct reading at = reading_of(m, s, x, tile);
  i64 row = s->x_row, column = s->x_column;
  for (i64 v = 0; v < pieces(s->c, LANES); v++) {
    const real *from = at.from + channel_of(v, s->c);
    real *place = to + v / 2 * f->right + v % 2 * LANES;
    if (v % 2 * LANES % LINE == 0) /* else it is in the line of the vector before */
      fetch_place(m + 2, place + PANEL, f->right_point);
    if (at.whole)
      input_vector(m, 1, at.part, from, row, column, f->right_point, place);
    else
      input_vector(m, 0, at.part, from, row, column, f->right_point, place);
  }
}

/* The points of one vector of a tile of dy, `apart` from each other; what the next tile reads of
   these results is fetched. */
INLINE void gradient_vector(const int m, const int whole, struct inside part, const real *from,
                            i64 row, i64 column, i64 apart, real *to) {
  const int points = m + 2;
  vec line[MOST_POINTS], half[MOST_POINTS * MOST_RESULTS];
#pragma GCC unroll 7
  for (int j = 0; j < m; j++) {
    const real *at = from;
#pragma GCC unroll 7
    for (int i = 0; i < m; i++, at += row) {
      line[i] = whole || is_inside(part, i, j) ? load(at) : (vec){0};
      __builtin_prefetch(at + m * column);
    }
    points_of_results(m, line, 1, half + j, m);
    from += column;
    OPAQUE(from);
  }
#pragma GCC unroll 9
  for (int i = 0; i < points; i++) {
    points_of_results(m, half + i * m, 1, line, 1);
#pragma GCC unroll 9
    for (int j = 0; j < points; j++, to += apart) store(to, line[j]);
    OPAQUE(to);
  }
}

/* The points of a tile of dy, zero outside of the grid, to (groups, points, tiles, LEFT_PITCH). */
INLINE void left_of(const int m, const struct winograd *s, const struct factors *f, const real *dy,
                    i64 tile, real *to) {
  struct spot spot = spot_of(s, tile);
  struct inside part = {bits_inside(spot.i, m, s->grid_h), bits_inside(spot.j, m, s->grid_w)};
  int whole = spot.i + m <= s->grid_h && spot.j + m <= s->grid_w;
  i64 column = s->k, row = s->grid_w * column;
  const real *from = dy + ((spot.image * s->grid_h + spot.i) * s->grid_w + spot.j) * s->k;
  for (i64 g = 0; g < pieces(s->k, TILE_ROWS); g++, to += f->left) {
    fetch_place(m + 2, to + LEFT_PITCH, f->left_point);
    for (i64 l = 0; l < LEFT_PITCH; l += LANES)
      if (whole)
        gradient_vector(m, 1, part, from + left_row(s, g) + l, row, column, f->left_point, to + l);
      else
        gradient_vector(m, 0, part, from + left_row(s, g) + l, row, column, f->left_point, to + l);
  }
}

/* Tile t of a block to its place in both factors. */
static void pack_tile(const struct winograd *s, const struct factors *f, const real *x,
                      const real *dy, i64 first, i64 t, real *right, real *left) {
  right += t * PANEL, left += t * LEFT_PITCH;
#define CASE(m)                                          \
  case m:                                                \
    right_of(m, s, f, x, first + t, right);              \
    left_of(m, s, f, dy, first + t, left);               \
    return;
  switch (s->m) { CASE(2) CASE(4) CASE(6) CASE(7) }
#undef CASE
}

/* to (LANES, 9) += nine vectors, transposed, for the lanes from the first on */
INLINE void add_columns(const vec *taps, i64 first, real *to) {
  real rows[LANES * 9 + LANES]; /* each stored in pieces, from its end: they reach into the next one */
#pragma GCC unroll 9
  for (int t = 9 / LANES * LANES; t >= 0; t -= LANES) {
    vec piece[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) piece[i] = t + i < 9 ? taps[t + i] : (vec){0};
    transpose(piece);
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) store(rows + l * 9 + t, piece[l]);
  }
  if (first == 0)
#pragma GCC unroll 9
    for (int i = 0; i < 9 * LANES; i += LANES) store(to + i, load(to + i) + load(rows + i));
  else
    for (i64 i = first * 9; i < 9 * LANES; i++) to[i] += rows[i];
}

enum { TOGETHER = 4, SUMS = TILE_ROWS * PANEL }; /* groups that read a panel's point in turn */

/* dw (k, c, 3, 3) += the taps of a group's sums (points, …, TILE_ROWS, PANEL). */
INLINE void add_group_taps(const int m, const struct winograd *s, const real *sums, i64 group,
                           i64 panel, real *dw) {
  const int points = m + 2;
  for (i64 k = panel_row(s->k, group); k < panel_row(s->k, group + 1); k++, sums += PANEL)
    for (i64 v = 2 * panel; v < min_i64(pieces(s->c, LANES), 2 * panel + 2); v++) {
      const real *from = sums + v % 2 * LANES;
      vec line[MOST_POINTS], half[3 * MOST_POINTS], taps[9];
#pragma GCC unroll 9
      for (int i = 0; i < points; i++) {
#pragma GCC unroll 9
        for (int j = 0; j < points; j++, from += TOGETHER * SUMS) line[j] = load(from);
        taps_of_points(m, line, 1, half + i, points);
        OPAQUE(from);
      }
#pragma GCC unroll 3
      for (int q = 0; q < 3; q++) taps_of_points(m, half + q * points, 1, taps + q, 3);
      i64 c = channel_of(v, s->c);
      add_columns(taps, v * LANES - c, dw + (k * s->c + c) * 9);
    }
}

/* Fetch piece e of `count` of what a group's taps will be added to. */
INLINE void fetch_taps(const struct winograd *s, i64 row, i64 rows, i64 panel, i64 e, i64 count,
                       const real *dw) {
  i64 lines = PANEL * 9 / LINE, all = rows * lines;
  for (i64 i = all * e / count; i < all * (e + 1) / count; i++)
    __builtin_prefetch(dw + ((row + i / lines) * s->c + panel * PANEL) * 9 + i % lines * LINE, 1, 2);
}

/* dw += what `count` tiles give for groups of results and a panel of channels; sums: scratch memory
   (points, TOGETHER, TILE_ROWS, PANEL). */
INLINE void add_groups_of(const int m, const struct winograd *s, const struct factors *f, i64 count,
                          i64 first, i64 groups, i64 panel, const real *left, const real *right,
                          real *sums, real *dw) {
  const int points = (m + 2) * (m + 2);
  i64 vectors = min_i64(pieces(s->c, LANES) - 2 * panel, 2), end = first + groups;
  struct runs runs = {1, count, NULL, right + panel * f->right, 0, LEFT_PITCH, 0, PANEL};
  for (int e = 0; e < points; e++, left += f->left_point, runs.right += f->right_point)
    for (i64 g = first; g < end; g++) {
      i64 row = panel_row(s->k, g), rows = panel_row(s->k, g + 1) - row;
      i64 next = g + 1 < end ? (g + 1) * f->left : first * f->left + f->left_point;
      runs.left = left + g * f->left + row - left_row(s, g);
      fetch_taps(s, row, rows, panel, e, points, dw);
      outer_tile(rows, vectors, &runs, (struct stream){left + next, 2 * LINE, count}, 0,
                 sums + (e * TOGETHER + g - first) * SUMS, PANEL);
    }
  for (i64 g = first; g < end; g++)
    add_group_taps(m, s, sums + (g - first) * SUMS, g, panel, dw);
}

/* A part of a block's products: a panel of channels by some groups of results. */
static void add_part(const struct winograd *s, const struct factors *f, i64 count, i64 part,
                     i64 parts, i64 panel, const real *left, const real *right, real *sums,
                     real *dw) {
  i64 all = pieces(s->k, TILE_ROWS), g = all * part / parts, end = all * (part + 1) / parts;
  for (i64 groups; g < end; g += groups) {
    groups = min_i64(end - g, TOGETHER);
    switch (s->m) {
      case 2: add_groups_of(2, s, f, count, g, groups, panel, left, right, sums, dw); break;
      case 4: add_groups_of(4, s, f, count, g, groups, panel, left, right, sums, dw); break;
      case 6: add_groups_of(6, s, f, count, g, groups, panel, left, right, sums, dw); break;
      default: add_groups_of(7, s, f, count, g, groups, panel, left, right, sums, dw); break;
    }
  }
}

/* The tiles of a block, and where its taps are added to. */
struct block {
  i64 first, count;
  real *to;
};

/* How the tiles are cut: chunks, whose taps have a place of their own where there are several, and
   `blocks` blocks of a chunk. */
struct cutting {
  i64 chunks, blocks;
  real *places; /* (chunks, k, c, 3, 3), or dw */
};

static struct block block_of(const struct winograd *s, const struct cutting *cut, i64 i) {
  i64 all = s->n * s->down * s->across, chunk = i / cut->blocks;
  i64 first = all * chunk / cut->chunks + i % cut->blocks * s->tiles;
  i64 count = min_i64(s->tiles, all * (chunk + 1) / cut->chunks - first);
  return (struct block){first, max_i64(count, 0), cut->places + chunk * s->k * s->c * 9};
}

/* Each thread takes chunks, and packs and multiplies their blocks alone. */
static void chunks_by_thread(const struct winograd *s, const struct factors *f,
                             const struct cutting *cut, struct queues *queues, const real *x,
                             const real *dy, real *memory, real *sums) {
  i64 panels = pieces(s->c, PANEL);
  real *right = memory, *left = right + panels * f->right;
  for (i64 chunk, ended = 0; (chunk = next_task(queues, &ended)) >= 0;)
    for (i64 i = chunk * cut->blocks; i < (chunk + 1) * cut->blocks; i++) {
      struct block b = block_of(s, cut, i);
      for (i64 t = 0; t < b.count; t++)
        pack_tile(s, f, x, dy, b.first, t, right, left);
      for (i64 panel = 0; panel < panels; panel++)
        add_part(s, f, b.count, 0, 1, panel, left, right, sums, b.to);
    }
}

/* All threads share each block: its products are cut into `parts` of the groups for each panel. One
   that has no products left packs tiles of the next. memory: two blocks' factors. */
static void threads_share(const struct winograd *s, const struct factors *f,
                          const struct cutting *cut, i64 parts, struct queues *queues,
                          const real *x, const real *dy, real *memory, real *sums) {
  i64 blocks = cut->chunks * cut->blocks, panels = pieces(s->c, PANEL), lefts = panels * f->right;
  i64 size = lefts + pieces(s->k, TILE_ROWS) * f->left;
  struct block now = {0}, next;
  for (i64 i = 0; i <= blocks; i++, now = next) {
    real *here = memory + i % 2 * size, *before = memory + (i + 1) % 2 * size;
    i64 ended[2] = {0}, task;
    next = i < blocks ? block_of(s, cut, i) : (struct block){0};
#pragma omp single
    {
      fill_queues(&queues[0], s->threads, i > 0 ? panels * parts : 0);
      fill_queues(&queues[1], s->threads, next.count);
    }
    while ((task = next_task(&queues[0], &ended[0])) >= 0)
      add_part(s, f, now.count, task % parts, parts, task / parts, before + lefts, before,
               sums, now.to);
    while ((task = next_task(&queues[1], &ended[1])) >= 0)
      pack_tile(s, f, x, dy, next.first, task, here, here + lefts);
#pragma omp barrier
  }
}

/* dw += the chunks' taps, in order; there are `size` of each */
static void add_chunks(const struct cutting *cut, i64 size, real *dw) {
#pragma omp for schedule(static)
  for (i64 i = 0; i < size; i++) {
    real sum = cut->places[i];
    for (i64 chunk = 1; chunk < cut->chunks; chunk++) sum += cut->places[i + chunk * size];
    dw[i] += sum;
  }
}

/* dw += Σ dy x        dy channels-last, at least LANES channels and LEFT_PITCH results
   chunks, blocks: of the tiles, and of each chunk; they do not depend on the number of threads.
   alone: each thread takes whole chunks, or else all share each block, cut into `parts`.
   work: the chunks' taps where there are several, a block's factors for each thread or else those of
   at most two blocks, and sums for each thread. */
void KERNEL(winograd_weight)(const real *x, const real *dy, real *dw, const i64 *shape, i64 parts,
                             i64 chunks, i64 blocks, i64 alone, real *work) {
  const struct winograd *s = (const struct winograd *)shape;
  struct factors f = factors_of(s);
  struct cutting cut = {chunks, blocks, chunks > 1 ? work : dw};
  i64 points = (s->m + 2) * (s->m + 2), size = s->k * s->c * 9;
  i64 taps = chunks > 1 ? chunks * size : 0, held = alone ? s->threads : min_i64(chunks * blocks, 2);
  i64 block = pieces(s->c, PANEL) * f.right + pieces(s->k, TILE_ROWS) * f.left + APART;
  i64 sums = TOGETHER * points * SUMS + APART;
  real *memory = work + taps, *own = memory + held * block;
  struct queues queues[2];
  fill_queues(&queues[0], s->threads, chunks);
#pragma omp parallel num_threads(s->threads)
  {
    i64 id = omp_get_thread_num();
    real *mine = own + id * sums;
#pragma omp for schedule(static)
    for (i64 i = 0; i < taps; i++) work[i] = 0;
    if (alone)
      chunks_by_thread(s, &f, &cut, queues, x, dy, memory + id * block, mine);
    else
      threads_share(s, &f, &cut, parts, queues, x, dy, memory, mine);
#pragma omp barrier
    if (taps) add_chunks(&cut, size, dw);
  }
}
