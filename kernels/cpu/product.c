/* Matrix products by all threads: of nn.Linear, and of recurrent layers for all steps at once.

   They are made by the threads that run all other layers: another library's threads, which spin
   for a while after their work, would take the processors from these.

   The terms are taken a slice at a time, both factors are packed, and a panel of the right factor
   stays in the first cache while all rows of a block of the left, which stays in the second, pass
   by. Where the left factor is low, all of it is one block and the threads take columns; otherwise
   they take blocks, and the right factor is packed before, as many slices as are kept at a time.
   Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, 2008. */
#include "panels.h"
#include "queues.h"

enum {
  SLICE = 512,
  LEFT_BLOCK = (384 << 10) / sizeof(real),
  RIGHT_KEPT = (4 << 20) / sizeof(real),
  TASKS = 8, /* of a thread, at least where there are so many LEAST panels of rows */
  LEAST = 4,
  IN_CACHE = (256 << 10) / sizeof(real),
  FEW_COLUMNS = 128 /* so few that the rows of a are better read in place */
};

struct product {
  i64 m, n, depth, threads; /* c (m, n) = a (m, depth) b (depth, n) */
  i64 terms;                /* of a slice */
  i64 kept;                 /* terms of the slices that are packed at a time */
  i64 panels;               /* of rows in a block */
  i64 low;                  /* whether all rows are one block */
  i64 packed;               /* whether b is panels [depth][TILE_COLUMNS] already */
  const real *bias;         /* (n,), or NULL */
  real *c, *work;
};

/* Slices of the factors: a (m, terms), b (terms, n). add: to what c holds */
struct slices {
  i64 terms;
  struct matrix a, b;
  int add;
};

/* What tiles fetch while they compute: one here, the next one `step` further. */
struct ahead {
  const real *at;
  i64 step;
};

/* What a tile fetches in passing, in numbers. */
INLINE i64 fetched(i64 terms) { return terms / 8 * TILE_COLUMNS; }

static struct product product_of(i64 m, i64 n, i64 depth, i64 threads) {
  i64 terms = pieces(depth, pieces(depth, SLICE)), panels = pieces(m, TILE_ROWS);
  i64 most = max_i64(1, LEFT_BLOCK / (terms * LEFT_PITCH)), low = panels <= most && n >= m;
  i64 slices = low ? 1 : max_i64(1, RIGHT_KEPT / (terms * n));
  i64 share = pieces(panels, max_i64(1, min_i64(threads * TASKS, panels / LEAST)));
  if (!low) panels = min_i64(share, most);
  return (struct product){.m = m, .n = n, .depth = depth, .threads = threads, .terms = terms,
                          .kept = min_i64(slices * terms, depth), .panels = panels, .low = low};
}

/* The numbers of memory for a block of the left factor. */
INLINE i64 left_size(const struct product *p) {
  return p->panels * LEFT_PITCH * p->terms + APART;
}

/* Those of a packed panel of the right factor. */
INLINE i64 right_size(const struct product *p) { return p->terms * TILE_COLUMNS + APART; }

/* The numbers of `work` that `shared_product` needs. */
i64 KERNEL(shared_product_work)(const real *x, i64 m, i64 n, i64 depth, i64 threads, i64 packed) {
  struct product p = product_of(m, n, depth, threads);
  if (packed) return (p.low ? 1 : threads) * left_size(&p);
  if (p.low) return left_size(&p) + threads * right_size(&p);
  return threads * left_size(&p) + pieces(n, TILE_COLUMNS) * p.kept * TILE_COLUMNS;
}

/* How many tasks the threads share: panels of columns; or blocks of rows, as many for each thread. */
INLINE i64 tasks_of(const struct product *p) {
  i64 all = pieces(p->m, TILE_ROWS), blocks = pieces(all, p->panels);
  return p->low ? pieces(p->n, TILE_COLUMNS) : min_i64(all, pieces(blocks, p->threads) * p->threads);
}

/* The panels of rows from `first` to `end` of the columns from j on; both factors are packed.
   ahead: what of the right factor will be wanted after this. */
static void panel_product(const struct product *p, i64 first, i64 end, i64 j, i64 terms,
                          const real *left, const real *right, struct ahead ahead, int add) {
  struct start start = {add, NULL, p->bias ? p->bias + j : NULL, ahead.at};
  for (i64 i = first; i < end; i++, left += terms * LEFT_PITCH) {
    i64 row = panel_row(p->m, i), rows = panel_row(p->m, i + 1) - row;
    tile_in(rows, min_i64(p->n - j, TILE_COLUMNS), terms, left, right, p->c + row * p->n + j, p->n,
            start);
    start.next += ahead.step;
  }
}

/* Whether the left factor is read so seldom, or lies so near, that it need not be packed. */
INLINE i64 read_in_place(const struct product *p, struct matrix a) {
  i64 few = p->low && p->m * p->depth <= IN_CACHE ? 2 * FEW_COLUMNS : FEW_COLUMNS;
  return a.column == 1 && p->n <= few;
}

/* The same where the rows of a are read in place. */
static void panel_in_place(const struct product *p, i64 first, i64 end, i64 j, i64 terms,
                           struct matrix a, const real *right, const real *next, int add) {
  struct reach reach = {1, 0, 1, 0, terms, next};
  for (i64 i = first; i < end; i++) {
    i64 row = panel_row(p->m, i), rows = panel_row(p->m, i + 1) - row;
    real *to = p->c + row * p->n + j;
    struct finish finish = finish_of(p->bias && !add ? p->bias + j : NULL, add ? to : NULL, NULL);
    panel_tile(rows, min_i64(p->n - j, TILE_COLUMNS), &reach, a.at + row * a.row, a.row, right, to,
               p->n, &finish);
    reach.next += terms / 4 * TILE_COLUMNS;
  }
}

/* A block of rows of a slice of a high product. right: panels, `apart` terms of them each */
static void high_block(const struct product *p, i64 first, i64 end, const struct slices *s,
                          const real *right, i64 apart, real *left) {
  i64 in_place = read_in_place(p, s->a), row = panel_row(p->m, first);
  struct matrix a = {s->a.at + row * s->a.row, s->a.row, s->a.column};
  if (!in_place) pack_left(a, p->m, first, end, s->terms, left);
  for (i64 j = 0; j < p->n; j += TILE_COLUMNS) {
    const real *panel = right + j * apart, *next = panel + apart * TILE_COLUMNS;
    if (in_place)
      panel_in_place(p, first, end, j, s->terms, s->a, panel, next, s->add);
    else
      panel_product(p, first, end, j, s->terms, left, panel,
                    (struct ahead){next, fetched(s->terms)}, s->add);
  }
}

/* Slices of a high product: each thread takes blocks of rows through all of them. */
static void high_slices(const struct product *p, const struct slices *s, struct queues *queues) {
  enum { TOGETHER = 4 * TILE_COLUMNS };
  i64 all = pieces(p->m, TILE_ROWS), tasks = tasks_of(p);
  real *left = p->work + omp_get_thread_num() * left_size(p);
  real *packed = p->work + p->threads * left_size(p);
  if (!p->packed) {
#pragma omp for schedule(static)
    for (i64 j = 0; j < p->n; j += TOGETHER)
      pack_right((struct matrix){s->b.at + j * s->b.column, s->b.row, s->b.column},
                 min_i64(p->n - j, TOGETHER), s->terms, packed + j * s->terms);
  }
  for (i64 task, ended = 0; (task = next_task(queues, &ended)) >= 0;) {
    i64 first = all * task / tasks, end = all * (task + 1) / tasks;
    for (i64 k = 0; k < s->terms; k += p->terms) {
      struct matrix a = {s->a.at + k * s->a.column, s->a.row, s->a.column};
      struct slices slice = {min_i64(p->terms, s->terms - k), a, s->b, s->add || k};
      const real *right = (p->packed ? s->b.at : packed) + k * TILE_COLUMNS;
      high_block(p, first, end, &slice, right, p->packed ? p->depth : s->terms, left);
    }
  }
}

/* A slice of a low product: each thread takes panels of columns. */
static void low_slice(const struct product *p, const struct slices *s, struct queues *queues) {
  enum { TOGETHER = 4 };
  struct matrix a = s->a, b = s->b;
  i64 panels = p->panels, terms = s->terms, in_place = read_in_place(p, a);
  i64 ahead = b.row == 1 && terms == p->depth ? fetched(terms) : b.column;
  real *left = p->work, *packed = left + left_size(p);
  packed += omp_get_thread_num() * right_size(p);
  if (!in_place) {
#pragma omp for schedule(static)
    for (i64 first = 0; first < panels; first += TOGETHER) {
      i64 row = panel_row(p->m, first);
      pack_left((struct matrix){a.at + row * a.row, a.row, a.column}, p->m, first,
                min_i64(first + TOGETHER, panels), terms, left + first * terms * LEFT_PITCH);
    }
  }
  for (i64 task, ended = 0; (task = next_task(queues, &ended)) >= 0;) {
    i64 j = task * TILE_COLUMNS;
    const real *right = packed, *next = b.at + (j + TILE_COLUMNS) * b.column;
    if (p->packed)
      right = b.at + j * p->depth, next = right + p->depth * TILE_COLUMNS, ahead = fetched(terms);
    else
      pack_right((struct matrix){b.at + j * b.column, b.row, b.column},
                 min_i64(p->n - j, TILE_COLUMNS), terms, packed);
    if (in_place)
      panel_in_place(p, 0, panels, j, terms, a, right, next, s->add);
    else
      panel_product(p, 0, panels, j, terms, left, right, (struct ahead){next, ahead}, s->add);
  }
}

/* c (m, n) = a b + bias, or c += (add) a b; a and b have any strides of rows and columns.
   bias: (n,), or NULL. packed: b is panels [depth][TILE_COLUMNS] already */
void KERNEL(shared_product)(const real *a, const real *b, const real *bias, real *c, i64 m, i64 n,
                            i64 depth, i64 a_row, i64 a_column, i64 b_row, i64 b_column, i64 packed,
                            i64 add, i64 threads, real *work) {
  struct product p = product_of(m, n, depth, threads);
  p.bias = bias, p.c = c, p.work = work, p.packed = packed;
  if (packed) b_row = TILE_COLUMNS;
  if (packed && !p.low) p.kept = depth;
  struct queues queues;
  fill_queues(&queues, threads, tasks_of(&p));
#pragma omp parallel num_threads(threads)
  for (i64 k = 0; k < depth; k += p.kept) {
    if (k) { /* what all share is written anew, when all are done with it */
#pragma omp barrier
#pragma omp single
      fill_queues(&queues, threads, tasks_of(&p));
    }
    struct slices s = {.terms = min_i64(depth - k, p.kept), .add = add || k};
    s.a = (struct matrix){a + k * a_column, a_row, a_column};
    s.b = (struct matrix){b + k * b_row, b_row, b_column};
    (p.low ? low_slice : high_slices)(&p, &s, &queues);
  }
}
