/* Matrix products by all threads: of nn.Linear, and of recurrent layers for all steps at once.

   They are made by the threads that run all other layers: another library's threads, which spin
   for a while after their work, would take the processors from these.

   The terms are taken a slice at a time, both factors are packed, and a panel of the right factor
   stays in the first cache while all rows of a block of the left, which stays in the second, pass
   by. Where the left factor is low, all of it is one block and the threads share the columns;
   otherwise they share the rows.
   Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, 2008. */
#include "panels.h"

enum {
  SLICE = 512,
  LEFT_BLOCK = (384 << 10) / sizeof(real),
  IN_CACHE = (256 << 10) / sizeof(real),
  FEW_COLUMNS = 128 /* so few that the rows of a are better read in place */
};

struct product {
  i64 m, n, depth, threads; /* c (m, n) = a (m, depth) b (depth, n) */
  i64 terms;                /* of a slice */
  i64 panels;               /* of rows in a block */
  i64 low;                  /* whether all rows are one block */
  i64 packed;               /* whether b is panels [depth][TILE_COLUMNS] already */
  const real *bias;         /* (n,), or NULL */
  real *c;
};

/* What tiles fetch while they compute: one here, the next one `step` further. */
struct ahead {
  const real *at;
  i64 step;
};

/* What a tile fetches in passing, in numbers. */
INLINE i64 fetched(i64 terms) { return terms / 8 * (64 / (i64)sizeof(real)); }

static struct product product_of(i64 m, i64 n, i64 depth, i64 threads) {
  i64 terms = pieces(depth, pieces(depth, SLICE)), panels = pieces(m, TILE_ROWS);
  i64 most = max_i64(1, LEFT_BLOCK / (terms * LEFT_PITCH)), low = panels <= most && n >= m;
  if (!low) panels = pieces(panels, threads * pieces(panels, threads * most));
  return (struct product){m, n, depth, threads, terms, panels, low, 0, NULL, NULL};
}

/* The numbers of left factor in a block. */
INLINE i64 left_size(const struct product *p) { return p->panels * LEFT_PITCH * p->terms; }

/* The numbers of `work` that `shared_product` needs. */
i64 KERNEL(shared_product_work)(const real *x, i64 m, i64 n, i64 depth, i64 threads) {
  struct product p = product_of(m, n, depth, threads);
  i64 right = p.terms * TILE_COLUMNS;
  if (p.low) return left_size(&p) + threads * right;
  return threads * left_size(&p) + pieces(n, TILE_COLUMNS) * right;
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

/* A slice of a high product: a (m, terms), b (terms, n); the work is that of all threads. */
static void high_slice(const struct product *p, i64 terms, struct matrix a, struct matrix b,
                       int add, real *work) {
  enum { TOGETHER = 4 * TILE_COLUMNS };
  i64 panels = pieces(p->m, TILE_ROWS), in_place = read_in_place(p, a);
  i64 apart = p->packed ? p->depth : terms; /* panels, in rows of them */
  real *packed = work, *left = work + p->terms * pieces(p->n, TILE_COLUMNS) * TILE_COLUMNS;
  const real *right = p->packed ? b.at : packed;
  left += omp_get_thread_num() * left_size(p);
#pragma omp for schedule(static)
  for (i64 j = 0; j < (p->packed ? 0 : p->n); j += TOGETHER)
    pack_right((struct matrix){b.at + j * b.column, b.row, b.column},
               min_i64(p->n - j, TOGETHER), terms, packed + j * terms);
#pragma omp for schedule(static)
  for (i64 first = 0; first < panels; first += p->panels) {
    i64 end = min_i64(first + p->panels, panels), row = panel_row(p->m, first);
    if (!in_place)
      pack_left((struct matrix){a.at + row * a.row, a.row, a.column}, p->m, first, end, terms,
                left);
    for (i64 j = 0; j < p->n; j += TILE_COLUMNS) {
      const real *panel = right + j * apart, *next = panel + apart * TILE_COLUMNS;
      if (in_place)
        panel_in_place(p, first, end, j, terms, a, panel, next, add);
      else
        panel_product(p, first, end, j, terms, left, panel, (struct ahead){next, fetched(terms)},
                      add);
    }
  }
}

/* The same of a low one. */
static void low_slice(const struct product *p, i64 terms, struct matrix a, struct matrix b,
                      int add, real *work) {
  i64 panels = p->panels, ahead = b.row == 1 && terms == p->depth ? fetched(terms) : b.column;
  i64 in_place = read_in_place(p, a);
  real *left = work, *packed = work + left_size(p);
  packed += omp_get_thread_num() * p->terms * TILE_COLUMNS;
#pragma omp for schedule(static)
  for (i64 first = 0; first < (in_place ? 0 : panels); first += 4) {
    i64 row = panel_row(p->m, first);
    pack_left((struct matrix){a.at + row * a.row, a.row, a.column}, p->m, first,
              min_i64(first + 4, panels), terms, left + first * terms * LEFT_PITCH);
  }
#pragma omp for schedule(static)
  for (i64 panel = 0; panel < pieces(p->n, TILE_COLUMNS); panel++) {
    i64 j = panel * TILE_COLUMNS;
    const real *right = packed, *next = b.at + (j + TILE_COLUMNS) * b.column;
    if (p->packed)
      right = b.at + j * p->depth, next = right + p->depth * TILE_COLUMNS, ahead = fetched(terms);
    else
      pack_right((struct matrix){b.at + j * b.column, b.row, b.column},
                 min_i64(p->n - j, TILE_COLUMNS), terms, packed);
    if (in_place)
      panel_in_place(p, 0, panels, j, terms, a, right, next, add);
    else
      panel_product(p, 0, panels, j, terms, left, right, (struct ahead){next, ahead}, add);
  }
}

/* c (m, n) = a b + bias, or c += (add) a b; a and b have any strides of rows and columns.
   bias: (n,), or NULL. packed: b is panels [depth][TILE_COLUMNS] already */
void KERNEL(shared_product)(const real *a, const real *b, const real *bias, real *c, i64 m, i64 n,
                            i64 depth, i64 a_row, i64 a_column, i64 b_row, i64 b_column, i64 packed,
                            i64 add, i64 threads, real *work) {
  struct product p = product_of(m, n, depth, threads);
  p.bias = bias, p.c = c, p.packed = packed;
#pragma omp parallel num_threads(threads)
  for (i64 k = 0; k < depth; k += p.terms) {
    i64 terms = min_i64(depth - k, p.terms);
    struct matrix left = {a + k * a_column, a_row, a_column};
    struct matrix right = {b + k * (p.packed ? TILE_COLUMNS : b_row), b_row, b_column};
    (p.low ? low_slice : high_slice)(&p, terms, left, right, add || k, work);
  }
}
