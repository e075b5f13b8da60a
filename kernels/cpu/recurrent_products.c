/* The products of recurrent layers for all steps at once, and the sums of the biases' gradients.

   They are made by the threads that take the steps: another library's threads, which spin for a
   while after their work, would take the processors from these. */

#include "panels.h"

enum { PRODUCT_DEPTH = 512, PRODUCT_PANELS = 8 }; /* what stays in the second cache */

struct product {
  i64 m, n, depth; /* c (m, n) = a (m, depth) b (depth, n) */
  i64 panels;      /* of rows, in one go */
  i64 terms;       /* of depth, in one go */
};

static struct product product_of(i64 m, i64 n, i64 depth, i64 threads) {
  i64 panels = pieces(m, TILE_ROWS), turns = pieces(panels, threads * PRODUCT_PANELS);
  return (struct product){m, n, depth, pieces(panels, threads * turns),
                          pieces(depth, pieces(depth, PRODUCT_DEPTH))};
}

/* A packed left factor's rows stand so far apart: not at powers of two, which meet in the cache. */
INLINE i64 left_pitch(i64 terms) { return (pieces(terms, LANES) + 1) * LANES; }

/* The numbers of left factor that a thread packs. */
INLINE i64 left_size(struct product p) {
  return pieces(p.panels * TILE_ROWS, LANES) * LANES * left_pitch(p.terms);
}

/* The numbers of work that `shared_product` needs. */
i64 KERNEL(shared_product_work)(const real *x, i64 m, i64 n, i64 depth, i64 threads) {
  struct product p = product_of(m, n, depth, threads);
  return p.terms * pieces(n, PANEL) * PANEL + threads * left_size(p);
}

/* Some panels of rows, from `first` on, of c = or += a b; b is packed. Rows of a whose numbers lie
   together are read in place, others are copied to `left` so that they do. */
static void product_rows(struct product p, i64 first, i64 terms, struct matrix a, const real *right,
                         real *c, int add, real *left) {
  i64 panels = pieces(p.m, TILE_ROWS), end = min_i64(first + p.panels, panels);
  i64 from = panel_row(p.m, first), till = panel_row(p.m, end);
  a.at += from * a.row;
  if (a.column != 1) {
    i64 pitch = left_pitch(terms);
    pack(a.at, a.column, a.row, terms, till - from, pitch, left);
    a = (struct matrix){left, pitch, 1};
  }
  for (i64 j = 0; j < p.n; j += PANEL, right += terms * PANEL) {
    struct reach reach = {1, 0, 1, 0, terms, right + terms * PANEL};
    for (i64 panel = first; panel < end; panel++) {
      i64 row = panel_row(p.m, panel), rows = panel_row(p.m, panel + 1) - row;
      real *to = c + row * p.n + j;
      struct finish finish = finish_of(NULL, add ? to : NULL, NULL);
      panel_tile(rows, min_i64(p.n - j, PANEL), &reach, a.at + (row - from) * a.row, a.row, right,
                 to, p.n, &finish);
      reach.next += terms / 4 * PANEL;
    }
  }
}

/* c (m, n) = or += (add) a b; a and b have any strides of rows and columns. */
void KERNEL(shared_product)(const real *a, const real *b, real *c, i64 m, i64 n, i64 depth,
                            i64 a_row, i64 a_column, i64 b_row, i64 b_column, i64 add, i64 threads,
                            real *work) {
  struct product p = product_of(m, n, depth, threads);
  real *right = work, *left = right + p.terms * pieces(n, PANEL) * PANEL;
#pragma omp parallel num_threads(threads)
  for (i64 k = 0; k < depth; k += p.terms) {
    i64 terms = min_i64(depth - k, p.terms);
#pragma omp for schedule(static)
    for (i64 j = 0; j < n; j += PANEL)
      pack_right((struct matrix){b + k * b_row + j * b_column, b_row, b_column},
                 min_i64(n - j, PANEL), terms, right + j * terms);
#pragma omp for schedule(static)
    for (i64 first = 0; first < pieces(m, TILE_ROWS); first += p.panels)
      product_rows(p, first, terms, (struct matrix){a + k * a_column, a_row, a_column}, right, c,
                   add || k, left + omp_get_thread_num() * left_size(p));
  }
}

/* y (columns,) = Σ x (rows, columns) */
void KERNEL(row_sum)(const real *x, real *y, i64 rows, i64 columns) {
#pragma omp parallel for schedule(static) if (rows * columns > PARALLEL_ABOVE)
  for (i64 j = 0; j < columns; j += PANEL) {
    i64 width = min_i64(columns - j, PANEL);
    real sum[PANEL] = {0};
    for (i64 row = 0; row < rows; row++)
#pragma omp simd
      for (i64 i = 0; i < width; i++) sum[i] += x[row * columns + j + i];
    memcpy(y + j, sum, width * sizeof(real));
  }
}
