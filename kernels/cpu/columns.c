/* Statistics of the columns of x (rows, c): of channels that lie innermost in memory.

   The rows are cut into `parts`, each of which writes two numbers a column to work (parts, 2, c),
   for two x with one gradient three; these are joined in order, so that the bits do not depend on the
   threads. */
#include "columns.h"

/* For each part and block of columns, in parallel: rows [from, to), columns [at, at + count).

   Each thread begins with the last rows that are its: what was written before this, from the first
   rows on, may have left only those in the caches, and what comes next finds the first ones there. */
#define COLUMN_PARTS(...)                                                                          \
  _Pragma("omp parallel if (rows * c > PARALLEL_ABOVE)") {                                         \
    const i64 blocks = pieces(c, COLUMN_BLOCK), team = omp_get_num_threads();                      \
    const i64 first = parts * blocks * omp_get_thread_num() / team;                                \
    for (i64 i = parts * blocks * (omp_get_thread_num() + 1) / team - 1; i >= first; i--) {        \
      const i64 part = i / blocks, at = i % blocks * COLUMN_BLOCK;                                 \
      const i64 from = rows * part / parts, to = rows * (part + 1) / parts;                        \
      const i64 count = min_i64(COLUMN_BLOCK, c - at);                                             \
      __VA_ARGS__;                                                                                 \
    }                                                                                              \
  }

/* sums = Σ (x - centre) and squares = Σ (x - centre)² of so many vectors of columns. */
INLINE void distances_of_vectors(const int vectors, const real *x, const real *centre, real *sums,
                                 real *squares, i64 rows, i64 step, const int far) {
  vec first[WIDEST], second[WIDEST];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) first[v] = second[v] = (vec){0};
  for (i64 i = 0; i < rows; i++, x += step) {
    fetch_ahead(far, x, step, vectors * LANES);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
      vec apart = load(x + v * LANES) - load(centre + v * LANES);
      first[v] += apart;
      MULTIPLY_ADD(second[v], apart, apart);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++)
    store(sums + v * LANES, first[v]), store(squares + v * LANES, second[v]);
}

/* The same of `count` columns. */
static void distances_of_rows(const real *x, const real *centre, real *sums, real *squares, i64 rows,
                              i64 step, i64 count, const int far) {
  if (count < LANES) {
    for (i64 k = 0; k < count; k++) sums[k] = squares[k] = 0;
    for (i64 i = 0; i < rows; i++)
      for (i64 k = 0; k < count; k++) {
        const real apart = x[i * step + k] - centre[k];
        sums[k] += apart;
        squares[k] += apart * apart;
      }
    return;
  }
  for (struct span s = {0}; (s = span_after(s, count)).vectors;) {
    const real *from = x + s.at;
#define CASE(v)                                                                               \
  case v:                                                                                     \
    distances_of_vectors(v, from, centre + s.at, sums + s.at, squares + s.at, rows, step, far); \
    break;
    switch (s.vectors) { EACH_SPAN(CASE) }
#undef CASE
  }
}

enum { PILOTS = 32 }; /* rows whose mean is the first guess at that of all */

/* The means and the sums of squared distances from them. The squares of ROW_PART rows are of the
   distances from the mean of the rows before; the sums are joined by the formula of Chan, Golub and
   LeVeque. */
static void moments_of_rows(const real *x, double *mean, double *squares, i64 rows, i64 step,
                            i64 count, const int far) {
  const i64 pilots = min_i64(PILOTS, rows);
  for (i64 k = 0; k < count; k++) mean[k] = squares[k] = 0;
  add_rows(x, mean, pilots, step, count, 0);
  for (i64 k = 0; k < count; k++) mean[k] /= pilots;
  for (i64 start = 0; start < rows; start += ROW_PART, x += ROW_PART * step) {
    const i64 n = min_i64(ROW_PART, rows - start);
    real centre[COLUMN_BLOCK], first[COLUMN_BLOCK], second[COLUMN_BLOCK];
    for (i64 k = 0; k < count; k++) centre[k] = (real)mean[k];
    distances_of_rows(x, centre, first, second, n, step, count, far);
    const double share = (double)n / (start + n), weight = share * start;
    for (i64 k = 0; k < count; k++) {
      const double off = (double)first[k] / n, apart = centre[k] + off - mean[k];
      squares[k] += second[k] - off * first[k] + apart * apart * weight;
      mean[k] += apart * share;
    }
  }
}

/* work[0] = the columns' means and sums of squared distances from them */
static void column_moments(const real *x, double *work, i64 rows, i64 c, i64 parts) {
  const int far = rows * c > LEAST_FAR;
  COLUMN_PARTS(double *mean = work + 2 * part * c + at;
               moments_of_rows(x + from * c + at, mean, mean + c, to - from, c, count, far))
  for (i64 part = 1; part < parts; part++) {
    const i64 before = rows * part / parts, both = rows * (part + 1) / parts;
    const double share = (double)(both - before) / both;
    const double *mean = work + 2 * part * c;
    for (i64 k = 0; k < c; k++) {
      const double apart = mean[k] - work[k];
      work[c + k] += mean[c + k] + apart * apart * share * before;
      work[k] += apart * share;
    }
  }
}

/* What is summed of a gradient, Σ g and Σ g v, where v is the distance of x from the mean (NULL: 0).
   AS_IS: g is dy. NEGATIVE: the same, but Σ g v is over v <= 0. BY_X: dy where a ReLU passed what
   normal() gives of v. BY_Y: dy where y > 0; g is written too. BY_MARKS: the same where y has marks.
   PAIR_BY_Y, PAIR_BY_MARKS: the same, but g is not written, and of a second x Σ g v is summed too. */
enum { AS_IS, NEGATIVE, BY_X, BY_Y, BY_MARKS, PAIR_BY_Y, PAIR_BY_MARKS };

struct gradients {
  const real *x, *y, *dy, *mean, *scale, *shift;
  const unsigned char *marks;
  real *g;
  const real *other, *other_mean; /* the second x */
};

INLINE int by_y(const int kind) { return kind == BY_Y || kind == PAIR_BY_Y; }
INLINE int by_marks(const int kind) { return kind == BY_MARKS || kind == PAIR_BY_MARKS; }
INLINE int gives_g(const int kind) { return kind == BY_Y || kind == BY_MARKS; }
INLINE int is_pair(const int kind) { return kind >= PAIR_BY_Y; }

/* The same numbers farther on: rows, of so many numbers, and columns. */
INLINE struct gradients gradients_at(const int kind, struct gradients p, i64 rows, i64 step,
                                     i64 column) {
  const i64 at = rows * step + column;
  p.x += at, p.dy += at;
  if (p.mean) p.mean += column;
  if (kind == BY_X) p.scale += column, p.shift += column;
  if (by_y(kind)) p.y += at;
  if (by_marks(kind)) p.marks += at / 8;
  if (gives_g(kind)) p.g += at;
  if (is_pair(kind)) p.other += at, p.other_mean += column;
  return p;
}

/* The sums over some rows of so many vectors of columns. */
INLINE void gradient_sums_of_vectors(const int vectors, const int kind, struct gradients p,
                                     real *sums, real *products, real *others, i64 rows, i64 step,
                                     const int far) {
  vec first[WIDEST], second[WIDEST], third[WIDEST];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) first[v] = second[v] = third[v] = (vec){0};
  for (i64 i = 0; i < rows; i++) {
    fetch_ahead(far, p.x, step, vectors * LANES);
    fetch_ahead(far, p.dy, step, vectors * LANES);
    if (by_y(kind)) fetch_ahead(far, p.y, step, vectors * LANES);
    if (by_marks(kind)) __builtin_prefetch(p.marks + AHEAD, 0, 2);
    if (is_pair(kind)) fetch_ahead(far, p.other, step, vectors * LANES);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
      const i64 k = v * LANES;
      vec apart = load(p.x + k) - load(p.mean + k), by = load(p.dy + k);
      if (kind == BY_X) by = passed(by, normal(apart, p.scale, p.shift, k));
      if (by_y(kind)) by = passed(by, load(p.y + k));
      if (by_marks(kind)) by = marked(by, p.marks, k);
      if (gives_g(kind)) put(far, p.g + k, by);
      first[v] += by;
      if (kind == NEGATIVE) { /* 0 0, not ∞ 0, where v is above 0 */
        by = (vec)((lanes_mask)by & ~(lanes_mask)(apart > (vec){0}));
        apart = SMALLER((vec){0}, apart);
      }
      MULTIPLY_ADD(second[v], apart, by);
      if (is_pair(kind)) {
        vec beside = load(p.other + k) - load(p.other_mean + k);
        MULTIPLY_ADD(third[v], beside, by);
      }
    }
    p = gradients_at(kind, p, 1, step, 0);
  }
#pragma GCC unroll 8
  for (int v = 0; v < vectors; v++) {
    store(sums + v * LANES, first[v]), store(products + v * LANES, second[v]);
    if (is_pair(kind)) store(others + v * LANES, third[v]);
  }
}

/* The same of fewer columns than fill a vector, AS_IS or NEGATIVE. */
INLINE void gradient_sums_of_few(const int kind, struct gradients p, real *sums, real *products,
                                 i64 rows, i64 step, i64 count) {
  for (i64 k = 0; k < count; k++) sums[k] = products[k] = 0;
  for (i64 i = 0; i < rows; i++)
    for (i64 k = 0; k < count; k++) {
      const real v = p.x[i * step + k] - p.mean[k], by = p.dy[i * step + k];
      sums[k] += by;
      products[k] += kind == NEGATIVE && v > 0 ? 0 : v * by;
    }
}

/* The same of `count` columns: work (2 or 3, c) = the sums and products of all rows. */
INLINE void gradient_sums_of_rows(const int kind, struct gradients p, double *work, i64 rows, i64 c,
                                  i64 count, const int far) {
  double *sums = work, *products = work + c, *others = work + 2 * c;
  for (i64 k = 0; k < count; k++) sums[k] = products[k] = 0;
  for (i64 k = 0; k < count && is_pair(kind); k++) others[k] = 0;
  for (i64 start = 0; start < rows; start += ROW_PART) {
    const i64 n = min_i64(ROW_PART, rows - start);
    real first[COLUMN_BLOCK], second[COLUMN_BLOCK], third[COLUMN_BLOCK];
    if (count < LANES) gradient_sums_of_few(kind, p, first, second, n, c, count);
    for (struct span s = {0}; (s = span_after(s, count)).vectors;) {
      const struct gradients q = gradients_at(kind, p, 0, c, s.at);
      real *one = first + s.at, *two = second + s.at, *three = third + s.at;
#define CASE(v)                                                                  \
  case v: gradient_sums_of_vectors(v, kind, q, one, two, three, n, c, far); break;
      switch (s.vectors) { EACH_SPAN(CASE) }
#undef CASE
    }
    if (gives_g(kind)) streamed();
    for (i64 k = 0; k < count; k++) sums[k] += first[k], products[k] += second[k];
    for (i64 k = 0; k < count && is_pair(kind); k++) others[k] += third[k];
    p = gradients_at(kind, p, n, c, 0);
  }
}

/* The same of rows [from, to) and columns [at, at + count) of c. */
static void gradient_sums_of_part(int kind, const struct gradients *all, double *work, i64 from,
                                  i64 to, i64 at, i64 count, i64 c, const int far) {
  const real zeros[COLUMN_BLOCK] = {0};
  const i64 rows = to - from;
  struct gradients p = gradients_at(kind, *all, from, c, at);
  if (!p.mean) p.mean = zeros;
#define CASE(kind) \
  case kind: gradient_sums_of_rows(kind, p, work, rows, c, count, far); return;
  switch (kind) {
    CASE(AS_IS) CASE(NEGATIVE) CASE(BY_X) CASE(BY_Y) CASE(BY_MARKS) CASE(PAIR_BY_Y)
    CASE(PAIR_BY_MARKS)
  }
#undef CASE
}

/* work[0] = the sums of all rows, of each column. From BY_X on they are whole vectors of columns. */
static void column_sums(int kind, const struct gradients *all, double *work, i64 rows, i64 c,
                        i64 parts) {
  const int far = gives_g(kind) ? goes_far(all->g, rows * c) : rows * c > LEAST_FAR;
  const i64 size = is_pair(kind) ? 3 * c : 2 * c;
  COLUMN_PARTS(gradient_sums_of_part(kind, all, work + size * part + at, from, to, at, count, c, far))
  for (i64 part = 1; part < parts; part++)
    for (i64 k = 0; k < size; k++) work[k] += work[size * part + k];
}

/* db += Σ dy and dw += Σ dy x, or Σ dy x over x <= 0 (negative), of each column; either may be NULL */
void KERNEL(add_column_sums)(const real *x, const real *dy, real *dw, real *db, double *work,
                             i64 rows, i64 c, i64 parts, i64 negative) {
  struct gradients p = {.x = x, .dy = dy};
  column_sums(negative ? NEGATIVE : AS_IS, &p, work, rows, c, parts);
  for (i64 k = 0; k < c; k++) {
    if (db) db[k] += work[k];
    if (dw) dw[k] += work[c + k];
  }
}

/* y (c,) = Σ x, of each column, or += (add); work: (parts, c) */
void KERNEL(column_totals)(const real *x, real *y, double *work, i64 rows, i64 c, i64 parts,
                           i64 add) {
  const int far = rows * c > LEAST_FAR;
  COLUMN_PARTS(double *totals = work + part * c + at;
               memset(totals, 0, count * sizeof(double));
               add_rows(x + from * c + at, totals, to - from, c, count, far))
  for (i64 part = 1; part < parts; part++)
    for (i64 k = 0; k < c; k++) work[k] += work[part * c + k];
  for (i64 k = 0; k < c; k++) y[k] = add ? y[k] + work[k] : work[k];
}
