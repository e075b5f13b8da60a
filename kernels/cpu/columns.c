/* Statistics of the columns of x (rows, c): of channels that lie innermost in memory.

   The rows are cut into `parts`, each of which writes two numbers a column to work (parts, 2, c);
   these are joined in order, so that the bits do not depend on the threads. */
#include "columns.h"

/* For each part and block of columns, in parallel: rows [from, to), columns [at, at + count). */
#define COLUMN_PARTS(...)                                                                         \
  _Pragma("omp parallel for collapse(2) if (rows * c > PARALLEL_ABOVE)")                          \
  for (i64 part = 0; part < parts; part++)                                                        \
    for (i64 at = 0; at < c; at += COLUMN_BLOCK) {                                                \
      const i64 from = rows * part / parts, to = rows * (part + 1) / parts;                       \
      const i64 count = min_i64(COLUMN_BLOCK, c - at);                                            \
      __VA_ARGS__;                                                                                \
    }

/* The mean of n rows of `count` columns, each in its own type. */
static void row_means(const real *x, real *mean, i64 n, i64 step, i64 count, const int far) {
  double total[COLUMN_BLOCK] = {0};
  add_rows(x, total, n, step, count, far);
  for (i64 k = 0; k < count; k++) mean[k] = (real)(total[k] / n);
}

/* The means and the sums of squared distances from them. ROW_PART rows, which stay in cache, are
   looked at twice; the sums are joined by the formula of Chan, Golub and LeVeque. */
static void moments_of_rows(const real *x, double *mean, double *squares, i64 rows, i64 step,
                            i64 count, const int far) {
  for (i64 k = 0; k < count; k++) mean[k] = squares[k] = 0;
  for (i64 start = 0; start < rows; start += ROW_PART, x += ROW_PART * step) {
    const i64 n = min_i64(ROW_PART, rows - start);
    real centre[COLUMN_BLOCK], first[COLUMN_BLOCK] = {0}, second[COLUMN_BLOCK] = {0};
    row_means(x, centre, n, step, count, far);
    for (i64 i = 0; i < n; i++)
#pragma omp simd
      for (i64 k = 0; k < count; k++) {
        const real distance = x[i * step + k] - centre[k];
        first[k] += distance;
        second[k] += distance * distance;
      }
    const double share = (double)n / (start + n), weight = share * start;
    for (i64 k = 0; k < count; k++) { /* first: what rounding left of the centre's error */
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

/* Σ dy and Σ v dy, where v is the distance from the centre (NULL: 0), or the negative part of x */
INLINE void sums_of_rows(const real *x, const real *centre, const real *dy, double *sums,
                         double *products, i64 rows, i64 step, i64 count, int negative,
                         const int far) {
  for (i64 k = 0; k < count; k++) sums[k] = products[k] = 0;
  for (i64 start = 0; start < rows; start += ROW_PART) {
    real middle[COLUMN_BLOCK] = {0}, first[COLUMN_BLOCK] = {0}, second[COLUMN_BLOCK] = {0};
    if (centre) memcpy(middle, centre, count * sizeof(real));
    for (i64 i = start; i < min_i64(rows, start + ROW_PART); i++) {
      fetch_ahead(far, x + i * step, step, count);
      fetch_ahead(far, dy + i * step, step, count);
#pragma omp simd
      for (i64 k = 0; k < count; k++) {
        const real v = x[i * step + k], by = dy[i * step + k];
        first[k] += by;
        second[k] += negative ? (v > 0 ? 0 : v * by) : (v - middle[k]) * by;
      }
    }
    for (i64 k = 0; k < count; k++) sums[k] += first[k], products[k] += second[k];
  }
}

/* work[0] = Σ dy and Σ (x - centre) dy, or Σ dy x over x <= 0 (negative), of each column */
static void column_sums(const real *x, const real *centre, const real *dy, double *work, i64 rows,
                        i64 c, i64 parts, i64 negative) {
  const int far = rows * c > LEAST_FAR;
  COLUMN_PARTS(double *sums = work + 2 * part * c + at; const i64 first = from * c + at;
               if (negative)
                 sums_of_rows(x + first, NULL, dy + first, sums, sums + c, to - from, c, count, 1,
                              far);
               else
                 sums_of_rows(x + first, centre ? centre + at : NULL, dy + first, sums, sums + c,
                              to - from, c, count, 0, far))
  for (i64 part = 1; part < parts; part++)
    for (i64 k = 0; k < 2 * c; k++) work[k] += work[2 * part * c + k];
}

/* db += Σ dy and dw += Σ dy x, or Σ dy x over x <= 0 (negative), of each column; either may be NULL */
void KERNEL(add_column_sums)(const real *x, const real *dy, real *dw, real *db, double *work,
                             i64 rows, i64 c, i64 parts, i64 negative) {
  column_sums(x, NULL, dy, work, rows, c, parts, negative);
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
