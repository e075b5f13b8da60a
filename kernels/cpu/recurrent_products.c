/* The products of recurrent layers for all steps at once, and the sums of the biases' gradients.

   They are made by the threads that take the steps: another library's threads, which spin for a
   while after their work, would take the processors from these. */

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

/* The numbers of work that `shared_product` needs. */
i64 KERNEL(shared_product_work)(const real *x, i64 m, i64 n, i64 depth, i64 threads) {
  struct product p = product_of(m, n, depth, threads);
  return p.terms * (pieces(n, TILE_COLUMNS) * TILE_COLUMNS + threads * p.panels * LEFT_PITCH);
}

/* Some panels of rows, from `first` on, of c = or += a b; b is packed, a becomes so. */
static void product_rows(struct product p, i64 first, i64 terms, struct matrix a, const real *right,
                         real *c, int add, real *left) {
  i64 panels = pieces(p.m, TILE_ROWS), end = min_i64(first + p.panels, panels);
  for (i64 panel = first; panel < end; panel++) {
    i64 row = panel_row(p.m, panel), rows = panel_row(p.m, panel + 1) - row;
    pack(a.at + row * a.row, a.row, a.column, rows, terms, LEFT_PITCH,
         left + (panel - first) * terms * LEFT_PITCH);
  }
  for (i64 j = 0; j < p.n; j += TILE_COLUMNS)
    for (i64 panel = first; panel < end; panel++) {
      i64 row = panel_row(p.m, panel), rows = panel_row(p.m, panel + 1) - row;
      tile_in(rows, min_i64(p.n - j, TILE_COLUMNS), terms,
              left + (panel - first) * terms * LEFT_PITCH, right + j * terms, c + row * p.n + j,
              p.n, (struct start){.add = add});
    }
}

/* c (m, n) = or += (add) a b; a and b have any strides of rows and columns. */
void KERNEL(shared_product)(const real *a, const real *b, real *c, i64 m, i64 n, i64 depth,
                            i64 a_row, i64 a_column, i64 b_row, i64 b_column, i64 add, i64 threads,
                            real *work) {
  struct product p = product_of(m, n, depth, threads);
  real *right = work, *left = right + p.terms * pieces(n, TILE_COLUMNS) * TILE_COLUMNS;
#pragma omp parallel num_threads(threads)
  for (i64 k = 0; k < depth; k += p.terms) {
    i64 terms = min_i64(depth - k, p.terms);
#pragma omp for schedule(static)
    for (i64 j = 0; j < n; j += TILE_COLUMNS)
      pack_right((struct matrix){b + k * b_row + j * b_column, b_row, b_column},
                 min_i64(n - j, TILE_COLUMNS), terms, right + j * terms);
#pragma omp for schedule(static)
    for (i64 first = 0; first < pieces(m, TILE_ROWS); first += p.panels)
      product_rows(p, first, terms, (struct matrix){a + k * a_column, a_row, a_column}, right, c,
                   add || k, left + omp_get_thread_num() * p.panels * p.terms * LEFT_PITCH);
  }
}

/* y (columns,) = Σ x (rows, columns) */
void KERNEL(row_sum)(const real *x, real *y, i64 rows, i64 columns) {
#pragma omp parallel for schedule(static) if (rows * columns > PARALLEL_ABOVE)
  for (i64 j = 0; j < columns; j += TILE_COLUMNS) {
    i64 width = min_i64(columns - j, TILE_COLUMNS);
    real sum[TILE_COLUMNS] = {0};
    for (i64 row = 0; row < rows; row++)
#pragma omp simd
      for (i64 i = 0; i < width; i++) sum[i] += x[row * columns + j + i];
    memcpy(y + j, sum, width * sizeof(real));
  }
}
