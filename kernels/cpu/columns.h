/* Sums down the columns of a matrix: what channels are where they lie innermost in memory.

   ROW_PART rows are summed in their own type and these sums in double, in a fixed order; up to
   COLUMN_BLOCK neighbouring columns go together. */
#pragma once

enum { ROW_PART = 128, COLUMN_BLOCK = 256 };

/* Of what comes from memory so many numbers are fetched ahead: what a processor fetches by itself, of one
   array or two, may come later than the memory could give it. */
enum { AHEAD = 1024 };

/* Fetch the row of `count` numbers that comes AHEAD of the one at x, where x comes from so far. */
INLINE void fetch_ahead(const int far, const real *x, i64 step, i64 count) {
  if (!far) return;
  const real *at = x + pieces(AHEAD, count) * step;
  for (i64 k = 0; k < count; k += 64 / (i64)sizeof(real)) __builtin_prefetch(at + k, 0, 2);
}

/* totals[k] += Σ x[row, k] over rows `step` numbers apart, for k < count <= COLUMN_BLOCK; far: x comes
   from memory */
static void add_rows(const real *x, double *totals, i64 rows, i64 step, i64 count, const int far) {
  for (i64 start = 0; start < rows; start += ROW_PART) {
    real part[COLUMN_BLOCK] = {0};
    for (i64 i = start; i < min_i64(rows, start + ROW_PART); i++) {
      fetch_ahead(far, x + i * step, step, count);
#pragma omp simd
      for (i64 k = 0; k < count; k++) part[k] += x[i * step + k];
    }
    for (i64 k = 0; k < count; k++) totals[k] += part[k];
  }
}
