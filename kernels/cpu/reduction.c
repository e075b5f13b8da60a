/* Sums and extremes over the middle axis of x (outer, n, inner). Where inner > 1 a task is a strip of
   columns, so that memory is read row by row; a sum's order does not depend on the threads. */
#include "sum.h"

enum { STRIP = 256, SUM_ROWS = 128 }; /* columns of a task; rows added before going to double */

/* y[j] = scale · Σ x[i, j] over n rows, for up to STRIP columns */
static void sum_strip(const real *x, real *y, double scale, i64 n, i64 inner, i64 width) {
  double total[STRIP];
  real part[STRIP];
  for (i64 j = 0; j < width; j++) total[j] = 0;
  for (i64 start = 0; start < n; start += SUM_ROWS) {
    i64 end = min_i64(n, start + SUM_ROWS);
    for (i64 j = 0; j < width; j++) part[j] = 0;
    i64 i = start;
    for (; i + 4 <= end; i += 4) { /* four rows a pass: part is read and written less often */
      const real *p = x + i * inner, *q = p + inner, *r = q + inner, *s = r + inner;
#pragma omp simd
      for (i64 j = 0; j < width; j++) part[j] += (p[j] + q[j]) + (r[j] + s[j]);
    }
    for (; i < end; i++) {
#pragma omp simd
      for (i64 j = 0; j < width; j++) part[j] += x[i * inner + j];
    }
    for (i64 j = 0; j < width; j++) total[j] += part[j];
  }
  for (i64 j = 0; j < width; j++) y[j] = scale * total[j];
}

void KERNEL(sum_over)(const real *x, real *y, i64 outer, i64 n, i64 inner, double scale) {
  const i64 strips = (inner + STRIP - 1) / STRIP;
#pragma omp parallel for if (outer * n * inner > PARALLEL_ABOVE)
  for (i64 task = 0; task < outer * strips; task++) {
    const i64 o = task / strips, j = task % strips * STRIP;
    if (inner == 1)
      y[o] = scale * sum(x + o * n, n);
    else
      sum_strip(x + o * n * inner + j, y + o * inner + j, scale, n, inner,
                min_i64(STRIP, inner - j));
  }
}

void KERNEL(sum_over_backward)(const real *dy, real *dx, i64 outer, i64 n, i64 inner,
                               double scale) {
  const real factor = scale;
  if (inner == 1) { /* rows of one number each: all those of a sum at once */
#pragma omp parallel for if (outer * n > PARALLEL_ABOVE)
    for (i64 o = 0; o < outer; o++)
      for (i64 i = 0; i < n; i++) dx[o * n + i] = factor * dy[o];
    return;
  }
#pragma omp parallel for if (outer * n * inner > PARALLEL_ABOVE)
  for (i64 row = 0; row < outer * n; row++) {
    const real *from = dy + row / n * inner;
    real *to = dx + row * inner;
#pragma omp simd
    for (i64 j = 0; j < inner; j++) to[j] = factor * from[j];
  }
}

/* best[j] and place[j] of up to STRIP columns: the first greatest of sign · x, NaN above all */
static void extremes(const real *x, real *best, i64 *place, real sign, i64 n, i64 inner,
                     i64 width) {
  for (i64 j = 0; j < width; j++) best[j] = sign * x[j], place[j] = 0;
  for (i64 i = 1; i < n; i++) {
    const real *row = x + i * inner;
#pragma omp simd
    for (i64 j = 0; j < width; j++) {
      const real v = sign * row[j], b = best[j];
      const int wins = (v > b) | ((v != v) & (b == b));
      best[j] = wins ? v : b;
      place[j] = wins ? i : place[j];
    }
  }
}

/* The greatest of sign · x in a row, NaN above all */
INLINE real row_extreme(const real *x, real sign, i64 n) {
  real best = sign * x[0], odd = 0;
#pragma omp simd reduction(max : best) reduction(+ : odd)
  for (i64 i = 0; i < n; i++) {
    const real v = sign * x[i];
    best = v > best ? v : best;
    odd += v != v ? 1 : 0;
  }
  return odd > 0 ? (real)NAN : best;
}

/* dx = dy at the first of a row that is its extreme, else 0 */
INLINE void row_extreme_backward(const real *x, real dy, real *dx, real sign, i64 n) {
  const real best = row_extreme(x, sign, n);
  i64 place = 0;
  while (best == best ? sign * x[place] != best : x[place] == x[place]) place++;
  memset(dx, 0, n * sizeof(real));
  dx[place] = dy;
}

/* sign: 1 for the greatest, -1 for the least; n > 0 */
void KERNEL(extreme_over)(const real *x, real *y, i64 outer, i64 n, i64 inner, i64 sign) {
  const i64 strips = (inner + STRIP - 1) / STRIP;
#pragma omp parallel for if (outer * n * inner > PARALLEL_ABOVE)
  for (i64 task = 0; task < outer * strips; task++) {
    const i64 o = task / strips, start = task % strips * STRIP;
    const i64 width = min_i64(STRIP, inner - start);
    if (inner == 1) {
      y[o] = sign * row_extreme(x + o * n, sign, n);
      continue;
    }
    i64 place[STRIP];
    real best[STRIP];
    extremes(x + o * n * inner + start, best, place, sign, n, inner, width);
    for (i64 j = 0; j < width; j++) y[o * inner + start + j] = sign * best[j];
  }
}

void KERNEL(extreme_over_backward)(const real *x, const real *dy, real *dx, i64 outer, i64 n,
                                   i64 inner, i64 sign) {
  const i64 strips = (inner + STRIP - 1) / STRIP;
#pragma omp parallel for if (outer * n * inner > PARALLEL_ABOVE)
  for (i64 task = 0; task < outer * strips; task++) {
    const i64 o = task / strips, start = task % strips * STRIP;
    const i64 width = min_i64(STRIP, inner - start);
    if (inner == 1) {
      row_extreme_backward(x + o * n, dy[o], dx + o * n, sign, n);
      continue;
    }
    i64 place[STRIP];
    real best[STRIP];
    extremes(x + o * n * inner + start, best, place, sign, n, inner, width);
    for (i64 i = 0; i < n; i++) {
      real *to = dx + (o * n + i) * inner + start;
      const real *from = dy + o * inner + start;
      for (i64 j = 0; j < width; j++) to[j] = place[j] == i ? from[j] : 0;
    }
  }
}
