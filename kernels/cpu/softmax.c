/* Softmax and its logarithm along an axis: x is (outer, count, inner), see softmax.h. */
#include "softmax.h"

/* y = e / sum */
INLINE void share_out(real *y, struct softmax s, struct softmax_part *p) {
  const real *e = p->e;
  for (i64 j = 0; j < p->rows; j++) p->sum[j] = 1 / p->sum[j];
  if (s.inner == 1) {
    const real factor = p->sum[0];
#pragma omp simd
    for (i64 i = 0; i < s.count; i++) y[i] = factor * e[i];
    return;
  }
  for (i64 i = 0; i < s.count; i++, y += s.inner, e += p->step)
#pragma omp simd
    for (i64 j = 0; j < p->rows; j++) y[j] = p->sum[j] * e[j];
}

void KERNEL(softmax)(const real *x, real *y, i64 outer, i64 count, i64 inner) {
  const struct softmax s = softmax_of(outer, count, inner);
  EACH_PART(s, y, p) {
    exponentials(x, NULL, s, &p, 1, 0);
    share_out(y + p.start, s, &p);
  }
}

/* y = x − greatest − ln sum */
INLINE void logarithms(const real *x, real *y, struct softmax s, struct softmax_part *p) {
#pragma omp simd
  for (i64 j = 0; j < p->rows; j++) p->sum[j] = logarithm_above_1(p->sum[j]);
  if (s.inner == 1) {
    const real greatest = p->greatest[0], total = p->sum[0];
#pragma omp simd
    for (i64 i = 0; i < s.count; i++) y[i] = x[i] - greatest - total;
    return;
  }
  for (i64 i = 0; i < s.count * s.inner; i += s.inner)
#pragma omp simd
    for (i64 j = 0; j < p->rows; j++) y[i + j] = x[i + j] - p->greatest[j] - p->sum[j];
}

void KERNEL(log_softmax)(const real *x, real *y, i64 outer, i64 count, i64 inner) {
  const struct softmax s = softmax_of(outer, count, inner);
  EACH_PART(s, y, p) {
    exponentials(x, NULL, s, &p, 0, 0);
    logarithms(x + p.start, y + p.start, s, &p);
  }
}

/* dx = y (dy − mean), y = e / sum and mean = Σ y dy */
INLINE void softmax_gradients(const real *dy, real *dx, struct softmax s, struct softmax_part *p) {
  const real *e = p->e;
  real *factor = p->sum, *mean = p->dot;
  for (i64 j = 0; j < p->rows; j++) factor[j] = 1 / p->sum[j], mean[j] *= factor[j];
  if (s.inner == 1) {
    const real one = factor[0], middle = mean[0];
#pragma omp simd
    for (i64 i = 0; i < s.count; i++) dx[i] = one * e[i] * (dy[i] - middle);
    return;
  }
  for (i64 i = 0; i < s.count; i++, dy += s.inner, dx += s.inner, e += p->step)
#pragma omp simd
    for (i64 j = 0; j < p->rows; j++) dx[j] = factor[j] * e[j] * (dy[j] - mean[j]);
}

void KERNEL(softmax_backward)(const real *x, const real *dy, real *dx, i64 outer, i64 count,
                              i64 inner) {
  const struct softmax s = softmax_of(outer, count, inner);
  EACH_PART(s, dx, p) {
    exponentials(x, dy, s, &p, 1, WEIGHED);
    softmax_gradients(dy + p.start, dx + p.start, s, &p);
  }
}

/* dx = dy − y total, y = e / sum and total = Σ dy */
INLINE void log_softmax_gradients(const real *dy, real *dx, struct softmax s,
                                  struct softmax_part *p) {
  const real *e = p->e;
  real *total = p->dot;
  for (i64 j = 0; j < p->rows; j++) total[j] /= p->sum[j];
  if (s.inner == 1) {
    const real all = total[0];
#pragma omp simd
    for (i64 i = 0; i < s.count; i++) dx[i] = dy[i] - e[i] * all;
    return;
  }
  for (i64 i = 0; i < s.count; i++, dy += s.inner, dx += s.inner, e += p->step)
#pragma omp simd
    for (i64 j = 0; j < p->rows; j++) dx[j] = dy[j] - e[j] * total[j];
}

void KERNEL(log_softmax_backward)(const real *x, const real *dy, real *dx, i64 outer, i64 count,
                                  i64 inner) {
  const struct softmax s = softmax_of(outer, count, inner);
  EACH_PART(s, dx, p) {
    exponentials(x, dy, s, &p, 1, ALONE);
    log_softmax_gradients(dy + p.start, dx + p.start, s, &p);
  }
}
