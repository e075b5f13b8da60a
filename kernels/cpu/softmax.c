/* Softmax and its logarithm along an axis: x is (outer, count, inner).

   With inner = 1 a row is in one piece and its loops become vectors along the row; otherwise
   loops go over up to SOFTMAX_WIDTH neighbouring rows at once. A part is one row, or so many. */
#include "exponential.h"

enum { SOFTMAX_WIDTH = 64 };

/* greatest = max x, sum = Σ e^(x − greatest) of each row; NaN comes through the sum */
INLINE void softmax_sums(const real *x, i64 count, i64 inner, i64 width, real *greatest,
                         real *sum) {
  if (inner == 1) {
    real most = -INFINITY, total = 0;
#pragma omp simd reduction(max : most)
    for (i64 i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : total)
    for (i64 i = 0; i < count; i++) total += exponential(x[i] - most);
    greatest[0] = most;
    sum[0] = total;
    return;
  }
  for (i64 j = 0; j < width; j++) greatest[j] = -INFINITY;
  for (i64 j = 0; j < width; j++) sum[j] = 0;
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++)
      greatest[j] = x[i * inner + j] > greatest[j] ? x[i * inner + j] : greatest[j];
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++) sum[j] += exponential(x[i * inner + j] - greatest[j]);
}

INLINE void softmax_part(const real *x, real *y, i64 count, i64 inner, i64 width) {
  real greatest[SOFTMAX_WIDTH], sum[SOFTMAX_WIDTH];
  softmax_sums(x, count, inner, width, greatest, sum);
  if (inner == 1) {
    const real most = greatest[0], total = sum[0];
#pragma omp simd
    for (i64 i = 0; i < count; i++) y[i] = exponential(x[i] - most) / total;
    return;
  }
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++)
      y[i * inner + j] = exponential(x[i * inner + j] - greatest[j]) / sum[j];
}

INLINE void log_softmax_part(const real *x, real *y, i64 count, i64 inner, i64 width) {
  real greatest[SOFTMAX_WIDTH], sum[SOFTMAX_WIDTH];
  softmax_sums(x, count, inner, width, greatest, sum);
  for (i64 j = 0; j < width; j++) sum[j] = log(sum[j]);
  if (inner == 1) {
    const real most = greatest[0], total = sum[0];
#pragma omp simd
    for (i64 i = 0; i < count; i++) y[i] = x[i] - most - total;
    return;
  }
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++) y[i * inner + j] = x[i * inner + j] - greatest[j] - sum[j];
}

/* dx holds y = softmax(x) and becomes y (dy − Σ y dy) */
INLINE void softmax_backward_part(const real *dy, real *dx, i64 count, i64 inner, i64 width) {
  if (inner == 1) {
    real total = 0;
#pragma omp simd reduction(+ : total)
    for (i64 i = 0; i < count; i++) total += dx[i] * dy[i];
#pragma omp simd
    for (i64 i = 0; i < count; i++) dx[i] *= dy[i] - total;
    return;
  }
  real sum[SOFTMAX_WIDTH] = {0};
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++) sum[j] += dx[i * inner + j] * dy[i * inner + j];
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++) dx[i * inner + j] *= dy[i * inner + j] - sum[j];
}

/* dx holds softmax(x) and becomes dy − softmax(x) Σ dy */
INLINE void log_softmax_backward_part(const real *dy, real *dx, i64 count, i64 inner, i64 width) {
  if (inner == 1) {
    real total = 0;
#pragma omp simd reduction(+ : total)
    for (i64 i = 0; i < count; i++) total += dy[i];
#pragma omp simd
    for (i64 i = 0; i < count; i++) dx[i] = dy[i] - dx[i] * total;
    return;
  }
  real sum[SOFTMAX_WIDTH] = {0};
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++) sum[j] += dy[i * inner + j];
  for (i64 i = 0; i < count; i++)
#pragma omp simd
    for (i64 j = 0; j < width; j++)
      dx[i * inner + j] = dy[i * inner + j] - dx[i * inner + j] * sum[j];
}

/* For each part, in parallel: where it starts (at) and how many rows wide it is. */
#define PARTS                                                                                     \
  const i64 blocks = (inner + SOFTMAX_WIDTH - 1) / SOFTMAX_WIDTH;                                 \
  _Pragma("omp parallel for if (outer * count * inner > PARALLEL_ABOVE / 4)")                     \
  for (i64 part = 0; part < outer * blocks; part++)
#define AT (part / blocks * count * inner + part % blocks * SOFTMAX_WIDTH)
#define WIDTH min_i64(SOFTMAX_WIDTH, inner - part % blocks * SOFTMAX_WIDTH)

void KERNEL(softmax)(const real *x, real *y, i64 outer, i64 count, i64 inner) {
  PARTS softmax_part(x + AT, y + AT, count, inner, WIDTH);
}

void KERNEL(log_softmax)(const real *x, real *y, i64 outer, i64 count, i64 inner) {
  PARTS log_softmax_part(x + AT, y + AT, count, inner, WIDTH);
}

void KERNEL(softmax_backward)(const real *x, const real *dy, real *dx, i64 outer, i64 count,
                              i64 inner) {
  PARTS {
    softmax_part(x + AT, dx + AT, count, inner, WIDTH);
    softmax_backward_part(dy + AT, dx + AT, count, inner, WIDTH);
  }
}

void KERNEL(log_softmax_backward)(const real *x, const real *dy, real *dx, i64 outer, i64 count,
                                  i64 inner) {
  PARTS {
    softmax_part(x + AT, dx + AT, count, inner, WIDTH);
    log_softmax_backward_part(dy + AT, dx + AT, count, inner, WIDTH);
  }
}

#undef PARTS
#undef AT
#undef WIDTH
