/* Sums down the columns of a matrix: what channels are where they lie innermost in memory.

   ROW_PART rows are summed in their own type and these sums in double, in a fixed order; up to
   COLUMN_BLOCK neighbouring columns go together. */
#pragma once

enum { ROW_PART = 128, COLUMN_BLOCK = 256 };

/* totals[k] += Σ x[row, k] over rows `step` numbers apart, for k < count <= COLUMN_BLOCK */
static void add_rows(const real *x, double *totals, i64 rows, i64 step, i64 count) {
  for (i64 start = 0; start < rows; start += ROW_PART) {
    real part[COLUMN_BLOCK] = {0};
    for (i64 i = start; i < min_i64(rows, start + ROW_PART); i++)
#pragma omp simd
      for (i64 k = 0; k < count; k++) part[k] += x[i * step + k];
    for (i64 k = 0; k < count; k++) totals[k] += part[k];
  }
}
