/* Sums in vector registers. Parts of 1024 numbers are summed in their own type and the parts in
   double, so that the error does not grow with the length. The order is fixed. */
#pragma once

enum { SUM_PART = 1024 };

/* Σ x, in four registers: an addition need not wait for the one before */
INLINE real part_sum(const real *x, i64 n) {
  vec sums[4] = {{0}};
  i64 i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES)
#pragma GCC unroll 4
    for (int l = 0; l < 4; l++) sums[l] += load(x + i + l * LANES);
  for (; i + LANES <= n; i += LANES) sums[0] += load(x + i);
  const vec all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  real total = 0;
  for (int l = 0; l < LANES; l++) total += all[l];
  for (; i < n; i++) total += x[i];
  return total;
}

/* Σ x */
INLINE double sum(const real *x, i64 n) {
  double total = 0;
  for (i64 start = 0; start < n; start += SUM_PART) {
    total += part_sum(x + start, min_i64(n - start, SUM_PART));
  }
  return total;
}

/* Σ (x - centre)² */
INLINE double sum_of_squares(const real *x, real centre, i64 n) {
  double total = 0;
  for (i64 start = 0; start < n; start += SUM_PART) {
    i64 end = min_i64(n, start + SUM_PART);
    real part = 0;
#pragma omp simd reduction(+ : part)
    for (i64 i = start; i < end; i++) part += (x[i] - centre) * (x[i] - centre);
    total += part;
  }
  return total;
}

/* Σ (x - centre) y */
INLINE double sum_of_products(const real *x, real centre, const real *y, i64 n) {
  double total = 0;
  for (i64 start = 0; start < n; start += SUM_PART) {
    i64 end = min_i64(n, start + SUM_PART);
    real part = 0;
#pragma omp simd reduction(+ : part)
    for (i64 i = start; i < end; i++) part += (x[i] - centre) * y[i];
    total += part;
  }
  return total;
}
