/* A convolution, one channel by channel of what it gives and maybe a 1 x 1 convolution of that,
   with nothing between them whole in memory.

   The second reads a panel of the first's results from a ring of rows in the first-level cache,
   with zeros beside them, so that all windows are alike. What the last one reads are all channels
   of some lines, in the second-level cache. Rows that two strips read are computed twice. */

struct chain {
  struct conv_last first, second; /* lines and panels of the second are those of a task */
  i64 planes;             /* whether the first reads planes of x, or pixels (then it is 1 x 1) */
  i64 block, rows, pitch; /* lines at a time; rows of a ring; numbers of a row, with its zeros */
  i64 flat;               /* short rows are computed together, and parted then */
  i64 k;                  /* results of the last convolution, or 0 where there is none */
  i64 source, beside;     /* numbers of scratch memory before the rings, see below */
};

/* Scratch memory of a thread. */
struct rings {
  real *source;  /* what the first convolution's windows read */
  real *beside;  /* rows that are not parted yet */
  real *ring;    /* (panels, rows, pitch) */
  real *between; /* (block * windows, channels): what the last convolution reads */
};

/* A task: an image, its lines of results, and panels of channels. */
struct link {
  i64 image, line, till, panel, panels;
};

/* What windows of the first convolution read: `row` and `step` numbers apart. */
struct source {
  const real *x;
  i64 row, step;
  struct reach reach;
};

static struct rings rings_of(const struct chain *e, real *work) {
  real *ring = work + e->source + e->beside;
  return (struct rings){work, work + e->source, ring, ring + e->second.panels * e->rows * e->pitch};
}

static struct link link_of(const struct conv_last *s, i64 task) {
  i64 panels = pieces(s->c, PANEL), shares = pieces(panels, s->panels);
  i64 down = pieces(s->grid_h, s->lines);
  struct link t = {.panel = task % shares * s->panels};
  task /= shares;
  t.image = task / down, t.line = task % down * s->lines;
  t.till = min_i64(t.line + s->lines, s->grid_h);
  t.panels = min_i64(s->panels, panels - t.panel);
  return t;
}

/* The rows of an image that lines read which are in it. */
static struct taps rows_of(const struct conv_last *s, i64 line, i64 till) {
  i64 from = max_i64(0, line * s->stride_h - s->pad_h);
  i64 end = min_i64(s->h, (till - 1) * s->stride_h - s->pad_h + (s->p - 1) * s->step_h + 1);
  return (struct taps){min_i64(from, s->h), end};
}

INLINE real *ring_row(const struct chain *e, real *ring, i64 row) {
  return ring + row % e->rows * e->pitch;
}

/* Zeros to both sides of all rows. */
static void clear_sides(const struct chain *e, real *ring, i64 panels) {
  i64 left = e->second.pad_w * PANEL, end = left + e->second.w * PANEL;
  for (i64 r = 0; r < panels * e->rows; r++, ring += e->pitch) {
    memset(ring, 0, left * sizeof(real));
    memset(ring + end, 0, (e->pitch - end) * sizeof(real));
  }
}

/* Row r of what the first convolution's windows read of an image, as (channels, taps down, columns)
   with its zeros. */
static void copy_planes(const struct conv_last *s, const real *x, i64 r, i64 columns, real *to) {
  i64 left = min_i64(s->pad_w, columns), till = max_i64(left, min_i64(s->pad_w + s->w, columns));
  for (i64 i = 0; i < s->c * s->p; i++, to += columns) {
    i64 row = r * s->stride_h - s->pad_h + i % s->p * s->step_h, inside = row >= 0 && row < s->h;
    i64 from = inside ? left : columns, end = inside ? till : columns;
    memset(to, 0, from * sizeof(real));
    if (inside)
      memcpy(to + from, x + i / s->p * s->x_channel + row * s->x_row, (end - from) * sizeof(real));
    memset(to + end, 0, (columns - end) * sizeof(real));
  }
}

/* Where the windows of some rows of the first convolution read: in x, or in copies. */
static struct source source_of(const struct chain *e, const real *x, i64 image, struct taps rows,
                               real *work) {
  const struct conv_last *s = &e->first;
  if (!e->planes) {
    i64 row = s->w * s->c;
    return (struct source){
        x + (image * s->h + rows.from) * row, row, s->c, {1, 0, 1, 0, s->c, NULL}};
  }
  i64 columns = (s->grid_w - 1) * s->stride_w + s->q, size = s->c * s->p * columns;
  for (i64 r = rows.from; r < rows.till; r++)
    copy_planes(s, x + image * s->x_image, r, columns, work + (r - rows.from) * size);
  return (struct source){
      work, size, s->stride_w, {s->c, s->p * columns, s->p, columns, s->q, NULL}};
}

/* to (windows, PANEL) = clamp(w x + b), the panel after this one being fetched meanwhile */
static void windows_by_panel(i64 windows, i64 vectors, const struct source *from, const real *x,
                             const real *panel, real *to, const struct finish *finish) {
  struct reach reach = from->reach;
  i64 size = reach.rows * reach.columns * reach.length * PANEL;
  reach.next = panel + size;
  for (i64 j = 0, rows, left = pieces(windows, TILE_ROWS); left > 0; left--, j += rows) {
    rows = (windows - j) / left;
    whole_tile(rows, vectors, &reach, x + j * from->step, from->step, panel, to + j * PANEL, PANEL,
               finish);
    reach.next += size / 4;
  }
}

/* Rows of the first convolution's results for a panel, of so many vectors, to their places in the
   ring. */
static void fill_ring(const struct chain *e, i64 vectors, const struct source *from,
                      struct taps rows, const real *panel, real *ring, real *beside,
                      const struct finish *finish) {
  i64 w = e->second.w, left = e->second.pad_w * PANEL, count = rows.till - rows.from;
  if (e->flat) windows_by_panel(count * w, vectors, from, from->x, panel, beside, finish);
  for (i64 r = rows.from; r < rows.till; r++) {
    i64 i = r - rows.from;
    real *to = ring_row(e, ring, r) + left;
    if (e->flat)
      memcpy(to, beside + i * w * PANEL, w * PANEL * sizeof(real));
    else
      windows_by_panel(w, vectors, from, from->x + i * from->row, panel, to, finish);
  }
}

/* Results of `count` windows side by side for a vector of channels. rows: the `down` rows of the
   ring that the first of them reads; w (down, taps, PANEL) */
INLINE void windows_of_ring(const int count, const int taps, const int stride, i64 down,
                            const real *const *rows, i64 place, const real *w, real *y, i64 pitch,
                            const struct finish *finish) {
  vec sum[WINDOWS_IN_RUN];
#pragma GCC unroll 8
  for (int j = 0; j < count; j++) sum[j] = finish->bias ? load(finish->bias) : (vec){0};
  for (i64 p = 0; p < down; p++, w += taps * PANEL) {
    const real *at = rows[p] + place;
    vec row[MOST_TAPS];
#pragma GCC unroll 5
    for (int q = 0; q < taps; q++) {
      row[q] = load(w + q * PANEL);
      OPAQUE_VECTOR(row[q]);
    }
#pragma GCC unroll 17
    for (int i = 0; i < (count - 1) * stride + taps; i++) {
      vec v = load(at + i * PANEL);
      OPAQUE_VECTOR(v);
#pragma GCC unroll 8
      for (int j = 0; j < count; j++)
        if (i >= j * stride && i < j * stride + taps) MULTIPLY_ADD(sum[j], row[i - j * stride], v);
    }
  }
  if (finish->clamped)
#pragma GCC unroll 8
    for (int j = 0; j < count; j++) sum[j] = within(sum[j], finish);
#pragma GCC unroll 8
  for (int j = 0; j < count; j++) store(y + j * pitch, sum[j]);
}

/* A line of windows for a panel; the last ones may be computed twice. */
INLINE void line_of_ring(const int taps, const int stride, i64 windows, i64 vectors, i64 down,
                         const real *const *rows, const real *w, real *y, i64 pitch,
                         const struct finish *finish) {
  i64 count = run_of(windows);
  for (i64 j = 0; j < windows; j += count) {
    i64 first = min_i64(j, windows - count);
    for (i64 i = 0; i < count; i++) fetch_to_write(y + (first + i) * pitch, vectors);
    for (i64 v = 0; v < vectors * LANES; v += LANES) {
      i64 place = first * stride * PANEL + v;
      struct finish here = finish_at(finish, v, 0);
      real *to = y + first * pitch + v;
      if (count == WINDOWS_IN_RUN)
        windows_of_ring(WINDOWS_IN_RUN, taps, stride, down, rows, place, w + v, to, pitch, &here);
      else if (count == WINDOWS_IN_PART)
        windows_of_ring(WINDOWS_IN_PART, taps, stride, down, rows, place, w + v, to, pitch, &here);
      else
        windows_of_ring(1, taps, stride, down, rows, place, w + v, to, pitch, &here);
    }
  }
}

/* A line of the second convolution for a panel, its taps w (p, q, PANEL). */
static void second_line(const struct chain *e, i64 vectors, i64 line, real *ring, const real *w,
                        real *y, const struct finish *finish) {
  const struct conv_last *s = &e->second;
  i64 top = line * s->stride_h - s->pad_h;
  struct taps inside = taps_inside(top, s->step_h, s->p, s->h);
  const real *rows[MOST_TAPS];
  for (i64 p = inside.from; p < inside.till; p++)
    rows[p - inside.from] = ring_row(e, ring, top + p * s->step_h);
  i64 down = inside.till - inside.from;
  w += inside.from * s->q * PANEL;
#define CASE(taps, stride)                                                            \
  case 2 * taps + stride:                                                             \
    line_of_ring(taps, stride, s->grid_w, vectors, down, rows, w, y, s->c, finish);   \
    break;
  switch (2 * s->q + s->stride_w) { CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) }
#undef CASE
}

/* y (pixels, k) = clamp(w x + b + other), x (pixels, c) */
static void last_lines(const struct chain *e, i64 pixels, const real *x, const real *w, real *y,
                       const struct finish *finish) {
  i64 c = e->second.c;
  for (i64 j = 0, rows, left = pieces(pixels, TILE_ROWS); left > 0; left--, j += rows) {
    rows = (pixels - j) / left;
    for (i64 k = 0; k < e->k; k += PANEL) {
      const real *panel = w + k * c;
      struct reach reach = {1, 0, 1, 0, c, panel};
      struct finish here = finish_at(finish, k, j * e->k + k);
      panel_tile(rows, min_i64(e->k - k, PANEL), &reach, x + j * c, c, panel, y + j * e->k + k,
                 e->k, &here);
    }
  }
}

/* The arrays of a chain; see below. */
struct chained {
  const real *x, *w, *taps, *last;
  real *y;
  struct finish first, second, third;
};

/* The lines from `line` to `till` of a task, with `rows` of the first convolution's results that
   are not in the rings yet. */
static void chained_lines(const struct chain *e, const struct chained *a, const struct link *t,
                          i64 line, i64 till, struct taps rows, const struct rings *mine) {
  const struct conv_last *s = &e->second;
  i64 depth = e->first.c * e->first.p * e->first.q;
  i64 pixel = (t->image * s->grid_h + line) * s->grid_w;
  struct source from = source_of(e, a->x, t->image, rows, mine->source);
  real *between = e->k ? mine->between : a->y + pixel * s->c;
  for (i64 i = 0; i < t->panels; i++) {
    i64 k = t->panel + i, vectors = pieces(min_i64(s->c - k * PANEL, PANEL), LANES);
    real *ring = mine->ring + i * e->rows * e->pitch, *to = between + k * PANEL;
    struct finish first = finish_at(&a->first, k * PANEL, 0);
    struct finish second = finish_at(&a->second, k * PANEL, 0);
    fill_ring(e, vectors, &from, rows, a->w + k * depth * PANEL, ring, mine->beside, &first);
    for (i64 l = line; l < till; l++, to += s->grid_w * s->c)
      second_line(e, vectors, l, ring, a->taps + k * s->p * s->q * PANEL, to, &second);
  }
  struct finish third = finish_at(&a->third, 0, pixel * e->k);
  if (e->k)
    last_lines(e, (till - line) * s->grid_w, between, a->last, a->y + pixel * e->k, &third);
}

/* y = clamp(last * clamp(taps * clamp(w * x + b) + taps_b) + last_b + other), or without the last
   where there is none. w, last in panels, taps (k / PANEL, p, q, PANEL); ranges may be NULL. */
void KERNEL(chained_last)(const real *x, const real *w, const real *b, const real *range,
                          const real *taps, const real *taps_b, const real *taps_range,
                          const real *last, const real *last_b, const real *last_range,
                          const real *other, real *y, const i64 *shape, real *work) {
  const struct chain *e = (const struct chain *)shape;
  const struct conv_last *s = &e->second;
  struct chained a = {x, w, taps, last, y, finish_of(b, NULL, range),
                      finish_of(taps_b, NULL, taps_range), finish_of(last_b, other, last_range)};
  i64 tasks = s->n * pieces(s->grid_h, s->lines) * pieces(pieces(s->c, PANEL), s->panels);
  struct queues queues;
  fill_queues(&queues, s->threads, tasks);
#pragma omp parallel num_threads(s->threads)
  for (i64 task, ended = 0; (task = next_task(&queues, &ended)) >= 0;) {
    struct link t = link_of(s, task);
    struct rings mine = rings_of(e, work + omp_get_thread_num() * s->work);
    clear_sides(e, mine.ring, t.panels);
    for (i64 line = t.line, till, done = 0; line < t.till; line = till) {
      till = min_i64(line + e->block, t.till);
      struct taps rows = rows_of(s, line, till);
      rows.from = max_i64(rows.from, done);
      done = max_i64(done, rows.till);
      chained_lines(e, &a, &t, line, till, rows, &mine);
    }
  }
}
