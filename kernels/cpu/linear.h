/* What linear layers of few rows of x have in common: see linear.c, linear_compact.c and
   linear_backward.c. */
#pragma once
#include "multiply.h"

enum { FEW_ROWS = 8, MOST_OUTS = 6, ALL_SUMS = 24 }; /* rows of x and of w at once, and their products */
enum { W_FETCHED = 2048 / (int)sizeof(real) };       /* numbers ahead of those that are read */

/* Σ v in a fixed order, by halves, of lanes that begin with the one before the last `turned` */
INLINE real sum_of_lanes(vec v, i64 turned) {
  real part[2 * LANES], total = 0;
  store(part, v);
  store(part + LANES, v);
  const real *first = part + (LANES - turned) % LANES;
#pragma omp simd reduction(+ : total)
  for (i64 l = 0; l < LANES; l++) total += first[l];
  return total;
}

/* y[r * o + j * apart] = the sum of sum[r * outs + j], of lanes as sum_of_lanes takes them, and of the
   products of numbers k to i of x[r] and w[j * apart], + b[j * apart] */
INLINE void write_sums(const i64 rows, const i64 outs, i64 apart, const real *x, const real *w,
                       const real *b, real *y, i64 i, i64 o, i64 k, i64 turned, const vec *sum) {
#pragma GCC unroll 8
  for (i64 j = 0; j < outs; j++)
#pragma GCC unroll 8
    for (i64 r = 0; r < rows; r++) {
      real total = sum_of_lanes(sum[r * outs + j], turned);
      for (i64 rest = k; rest < i; rest++) total += x[r * i + rest] * w[j * apart * i + rest];
      y[r * o + j * apart] = b ? total + b[j * apart] : total;
    }
}
