/* The gradient of a convolution's weights with channels lying together: for every tap the product
   of dy, transposed, with what the tap read. What many tiles read is packed, since numbers a power
   of two apart fight for the same lines of the cache; the sums of a tile stay in registers for a
   strip, and what the next ones need is fetched meanwhile. */
#include "outer_product.h"
#include "queues.h"

/* What the kernel is told; of the convolution the lines and columns of a strip, and how many panels
   are packed at a time. */
struct conv_weight {
  struct conv_last conv;
  i64 down, across; /* how often the groups of results and the panels are cut into parts */
  i64 chunks;       /* of the strips, with sums of their own, or 0: then the sums are dw itself */
  i64 turned;       /* whether the results are the vectors' lanes */
  i64 images;       /* of a strip; where there are several they are whole */
  i64 strip, lefts, each; /* numbers of scratch memory: of a copied strip, packed dy, a thread */
};

/* Scratch memory of a thread: for a strip, the left and the right factor. */
struct scratch {
  real *copy, *left, *right;
};

/* What the tiles of a batch of panels fetch for those that come after: a piece of dy, which the
   next strip wants, and what the next batch reads. Each takes some pixels side by side and of them
   one line of the cache, spread over its steps: many at once would bar the way for what it reads. */
struct fetching {
  struct pixels from[2];
  i64 each[2];       /* lines of the cache a pixel */
  i64 pixels[2];     /* of a share */
  i64 at[2], end[2]; /* those of all lines of pixels, the first and the one after the last */
  i64 share, shares; /* of the pixels side by side: so many tiles fetch one line of each */
  const real *place; /* where the next share begins */
};

static struct stream next_stream(struct fetching *f) {
  int i = f->at[0] == f->end[0];
  const struct pixels *p = &f->from[i];
  if (f->at[i] == f->end[i]) return (struct stream){p->at, 0, 1};
  if (f->share == 0)
    f->place = line_of(p, f->at[i] / f->each[i]) + f->at[i] % f->each[i] * LINE;
  i64 count = max_i64(0, min_i64(f->pixels[i], p->columns - f->share * f->pixels[i]));
  struct stream next = {f->place, p->step, count};
  f->place += count * p->step;
  if (++f->share == f->shares) f->share = 0, f->at[i]++;
  return next;
}

/* The products of a part of a strip: sums = left right, or += (add).
   gradient: the left factor, whose groups stand `size` apart where it is packed; right: memory for
   the right one, which is not packed where pixels are as near to one another as that already. */
static void strip_product(const struct conv_last *s, const struct strip *t, const struct cut *cut,
                          const struct section *section, const struct pixels *gradient, i64 size,
                          struct fetching *fetching, int add, real *right, real *sums) {
  int near = s->stride_w * t->x_column <= PANEL;
  if (!near) pack_taps(s, t, cut, section, right);
  for (i64 i = section->panel; i < section->panels; i++) {
    struct pixels x = panel_pixels(s, t, cut, i);
    if (!near) x = packed(&x, right, PANEL), right += right_numbers(x.columns);
    struct runs runs = runs_of(gradient, &x);
    i64 vectors = panel_vectors(cut, i), row = panel_row(s->k, section->group);
    struct heights heights = heights_from(s->k, section->group);
    for (i64 g = section->group; g < section->groups; g++) {
      i64 rows = next_height(&heights);
      outer_tile(rows, vectors, &runs, next_stream(fetching), add,
                 sums + i * cut->panel + row * cut->pitch, cut->pitch);
      row += rows, runs.left += IN_PLACE ? rows : size;
    }
  }
}

/* to (PANEL numbers, `taps` apart) += Σ of so many chunks' sums, `size` apart */
INLINE void add_panel(const real *from, i64 chunks, i64 size, real *to, i64 taps) {
  vec sum[2] = {load(from), load(from + LANES)};
  for (i64 i = 1; i < chunks; i++) {
    sum[0] += load(from + i * size);
    sum[1] += load(from + i * size + LANES);
  }
  if (taps == 1) {
    store(to, load(to) + sum[0]);
    store(to + LANES, load(to + LANES) + sum[1]);
  } else {
#pragma GCC unroll 32
    for (int l = 0; l < PANEL; l++) to[l * taps] += sum[l / LANES][l % LANES];
  }
}

/* dw (k, c, p, q) += the sums (chunks, taps, panels, k, PANEL), in this order: of `rows` results k
   from k on, and of the channels of one panel from c on. */
static void add_block(const struct conv_last *s, const struct cut *cut, i64 chunks,
                      const real *sums, i64 k, i64 rows, i64 c, real *dw) {
  i64 taps = s->p * s->q, size = cut->taps * cut->panels * s->k * PANEL;
  for (i64 t = 0; t < taps; t++) {
    i64 tap = cut->together ? t / s->q : t, first = cut->together ? t % s->q * s->c : 0;
    i64 column = first + c, end = first + min_i64(c + PANEL, s->c);
    for (i64 till; column < end; column = till) {
      till = min_i64(end, column / PANEL * PANEL + PANEL);
      const real *from = sums + ((tap * cut->panels + column / PANEL) * s->k + k) * PANEL;
      real *to = dw + (k * s->c + column - first) * taps + t;
      for (i64 i = 0; i < rows; i++, from += PANEL, to += s->c * taps)
        if (till - column == PANEL) {
          add_panel(from, chunks, size, to, taps);
        } else {
          for (i64 l = 0; l < till - column; l++) {
            real sum = from[column % PANEL + l];
            for (i64 j = 1; j < chunks; j++) sum += from[column % PANEL + l + j * size];
            to[l * taps] += sum;
          }
        }
    }
  }
}

/* The same of all of them. */
static void add_sums(const struct conv_last *s, const struct cut *cut, i64 chunks,
                     const real *sums, real *dw) {
  enum { ROWS = 8 }; /* read together, as they lie */
#pragma omp for schedule(static)
  for (i64 k = 0; k < s->k; k += ROWS)
    for (i64 c = 0; c < s->c; c += PANEL)
      add_block(s, cut, chunks, sums, k, min_i64(ROWS, s->k - k), c, dw);
}

/* What a thread does at a time: a part of the products of strips from `first` to `last`. */
struct task {
  i64 chunk, first, last;
  struct section part;
};

/* A part of the products of a strip, of the `down` * `across`. */
static struct section section_of(const struct conv_weight *p, const struct cut *cut, i64 part) {
  i64 i = part / p->across, j = part % p->across;
  i64 groups = pieces(p->conv.k, TILE_ROWS), panels = cut->taps * cut->panels;
  return (struct section){groups * i / p->down, groups * (i + 1) / p->down,
                          panels * j / p->across, panels * (j + 1) / p->across};
}

/* What is fetched during the batch of panels that begins at `panel` of a part's strip t: of what comes
   after the strip, the left factor, and the next batch. */
static struct fetching fetching_of(const struct conv_last *s, const struct cut *cut,
                                   const struct section *part, i64 panel, const struct strip *t,
                                   const struct section *next_part, const struct strip *next,
                                   const real *dy) {
  i64 first = panel_row(s->k, next_part->group);
  i64 rows = panel_row(s->k, next_part->groups) - first, after = panel + s->panels;
  i64 batch = (panel - part->panel) / s->panels, panels = min_i64(s->panels, part->panels - panel);
  i64 batches = pieces(part->panels - part->panel, s->panels), till = part->panels;
  int last = batch + 1 == batches;
  if (last) after = next_part->panel, till = next_part->panels;
  struct fetching f = {{gradient_pixels(s, next, dy, first),
                        panel_pixels(s, last ? next : t, cut, after)},
                       .each = {pieces(rows, LINE)}, .shares = 1};
  i64 lefts = f.from[0].lines * f.each[0], width = min_i64(s->panels, till - after) * PANEL;
  f.at[0] = lefts * batch / batches, f.end[0] = lefts * (batch + 1) / batches;
  f.each[1] = pieces(width, LINE);
  if (!s->copies) f.end[1] = f.from[1].images * f.from[1].lines * f.each[1];
  i64 lines = f.end[0] - f.at[0] + f.end[1], tiles = panels * (part->groups - part->group);
  if (lines < tiles && lines > 0) f.shares = tiles / lines;
  for (int i = 0; i < 2; i++) f.pixels[i] = pieces(f.from[i].columns, f.shares);
  return f;
}

/* Task i: parts of the first chunk's strips, then of the second's. */
static struct task task_of(const struct conv_weight *p, const struct cut *cut, i64 i) {
  const struct conv_last *s = &p->conv;
  i64 strips = pieces(s->n, p->images) * pieces(s->grid_h, s->lines) * pieces(s->grid_w, s->columns);
  i64 parts = p->down * p->across, chunks = max_i64(p->chunks, 1), chunk = i / parts;
  return (struct task){chunk, strips * chunk / chunks, strips * (chunk + 1) / chunks,
                       section_of(p, cut, i % parts)};
}

/* Strip i, where each is of so many images. */
static struct strip images_of(const struct conv_last *s, i64 images, i64 i) {
  struct strip t = strip_of(s, i * images);
  t.images = min_i64(images, s->n - t.image);
  return t;
}

/* The sums of a task, a batch of panels at a time. after: the thread's next one. adds: whether to what
   stands in sums. */
static void part_product(const struct conv_weight *p, const struct cut *cut,
                         const struct task *task, const struct task *after, const real *x,
                         const real *dy, const struct scratch *mine, int adds, real *sums) {
  const struct conv_last *s = &p->conv;
  const struct section *part = &task->part;
  for (i64 i = task->first; i < task->last; i++) {
    int last = i + 1 == task->last;
    const struct section *next_part = last ? &after->part : part;
    struct strip t = images_of(s, p->images, i);
    struct strip next = images_of(s, p->images, last ? after->first : i + 1);
    struct pixels gradient = gradient_pixels(s, &t, dy, panel_row(s->k, part->group));
    int add = adds || i > task->first;
    read_strip(s, x, &t, mine->copy);
    point_strip(s, x, &next, mine->copy);
    i64 size = left_numbers(count_of(&gradient));
    if (!IN_PLACE) {
      pack_gradient(s, &gradient, part, mine->left);
      gradient = packed(&gradient, mine->left, TILE_ROWS);
    }
    for (i64 panel = part->panel; panel < part->panels; panel += s->panels) {
      struct section batch = {part->group, part->groups, panel,
                              min_i64(panel + s->panels, part->panels)};
      struct fetching f = fetching_of(s, cut, part, panel, &t, next_part, &next, dy);
      strip_product(s, &t, cut, &batch, &gradient, size, &f, add, mine->right, sums);
    }
  }
}

/* The sums of a task's strips the other way round: of what the taps read a number goes with each
   vector of results. sums: (rows of taps, panels of results, numbers of a row of taps, PANEL) */
static void turned_product(const struct conv_last *s, const struct cut *cut,
                           const struct task *task, const struct task *after, const real *x,
                           const real *dy, const struct scratch *mine, real *sums) {
  i64 panels = pieces(s->k, PANEL), tiles = s->p * panels * pieces(cut->width, TILE_ROWS);
  for (i64 i = task->first; i < task->last; i++) {
    struct strip t = strip_of(s, i);
    struct strip next = strip_of(s, i + 1 < task->last ? i + 1 : after->first);
    struct pixels gradient = gradient_pixels(s, &t, dy, 0);
    struct fetching fetching = {{gradient_pixels(s, &next, dy, 0)}, {pieces(s->k, LINE), 1}};
    fetching.end[0] = fetching.from[0].lines * fetching.each[0];
    fetching.shares = max_i64(1, tiles / fetching.end[0]);
    fetching.pixels[0] = pieces(fetching.from[0].columns, fetching.shares);
    i64 size = right_numbers(count_of(&gradient));
    read_strip(s, x, &t, mine->copy);
    pack_pixels(&gradient, s->k, mine->right);
    for (i64 part = 0; part < s->p * panels; part++) {
      i64 panel = part % panels, vectors = min_i64(pieces(s->k - panel * PANEL, LANES), 2);
      struct pixels taps = {1, t.lines, t.columns, t.x + part / panels * s->step_h * t.x_row,
                            0, s->stride_h * t.x_row, s->stride_w * t.x_column};
      struct pixels results = {1, t.lines, t.columns, mine->right + panel * size,
                               0, t.columns * PANEL, PANEL};
      struct runs runs = runs_of(&taps, &results);
      real *to = sums + part * cut->width * PANEL;
      struct heights heights = heights_from(cut->width, 0);
      for (const real *end = taps.at + cut->width; runs.left < end;) {
        i64 rows = next_height(&heights);
        outer_tile(rows, vectors, &runs, next_stream(&fetching), i > task->first, to, PANEL);
        runs.left += rows, to += rows * PANEL;
      }
    }
  }
}

/* dw (k, c, p, q) += the chunks' turned sums, in their order. */
static void add_turned(const struct conv_last *s, const struct cut *cut, i64 chunks,
                       const real *sums, real *dw) {
  i64 panels = pieces(s->k, PANEL), taps = s->p * s->q, size = panels * s->p * cut->width * PANEL;
#pragma omp for schedule(static)
  for (i64 panel = 0; panel < panels; panel++)
    for (i64 i = 0; i < s->p * cut->width; i++) {
      i64 p = i / cut->width, q = i % cut->width / s->c, c = i % s->c;
      const real *from = sums + ((p * panels + panel) * cut->width + i % cut->width) * PANEL;
      real *to = dw + (panel * PANEL * s->c + c) * taps + p * s->q + q;
      for (i64 l = 0; l < min_i64(PANEL, s->k - panel * PANEL); l++) {
        real sum = from[l];
        for (i64 j = 1; j < chunks; j++) sum += from[l + j * size];
        to[l * s->c * taps] += sum;
      }
    }
}

/* dw += Σ dy x where it adds, else dw = Σ dy x        dy channels-last, one group
   shape: a struct conv_weight. The number of chunks does not depend on that of the threads. No chunks:
   1 x 1 taps and whole vectors of channels. turned: k fills whole vectors, there are chunks, no parts.
   work: the chunks' sums, APART numbers, and each thread's. */
void KERNEL(conv_weight)(const real *x, const real *dy, real *dw, const i64 *shape, real *work,
                         i64 adds) {
  const struct conv_weight *p = (const struct conv_weight *)shape;
  const struct conv_last *s = &p->conv;
  struct cut cut = cut_of(s, !p->chunks);
  i64 size = cut.taps * cut.panels * s->k * PANEL;
  if (p->turned) size = s->p * pieces(s->k, PANEL) * cut.width * PANEL;
  if (p->chunks && !adds) memset(dw, 0, s->k * s->c * s->p * s->q * sizeof(real)); /* a small one */
  struct queues queues;
  fill_queues(&queues, s->threads, max_i64(p->chunks, 1) * p->down * p->across);
#pragma omp parallel num_threads(s->threads)
  {
    real *copy = work + p->chunks * size + APART + omp_get_thread_num() * p->each;
    struct scratch mine = {copy, copy + p->strip, copy + p->strip + p->lefts};
    for (i64 i, ended = 0; (i = next_task(&queues, &ended)) >= 0;) {
      i64 then = task_after(&queues, i);
      struct task task = task_of(p, &cut, i), after = task_of(p, &cut, then);
      if (then == i) after.first = task.last - 1;
      real *sums = p->chunks ? work + task.chunk * size : dw;
      if (p->turned)
        turned_product(s, &cut, &task, &after, x, dy, &mine, sums);
      else
        part_product(p, &cut, &task, &after, x, dy, &mine, adds && !p->chunks, sums);
    }
#pragma omp barrier
    if (p->turned)
      add_turned(s, &cut, p->chunks, work, dw);
    else if (p->chunks)
      add_sums(s, &cut, p->chunks, work, dw);
  }
}
