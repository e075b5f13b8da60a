/* Losses: x is (n, c, s), target (n, s) holds classes; a place is one of the n s rows of c values.

   Each place writes its own loss and weight; their sum is taken afterwards in a fixed order. */
#include "exponential.h"

void KERNEL(nll_loss)(const real *x, const i64 *target, const real *weight, real *losses,
                      real *weights, i64 n, i64 c, i64 s, i64 ignore) {
#pragma omp parallel for if (n * s > PARALLEL_ABOVE)
  for (i64 place = 0; place < n * s; place++) {
    const i64 t = target[place];
    const real factor = t == ignore ? 0 : weight ? weight[t] : 1;
    weights[place] = factor;
    losses[place] = t == ignore ? 0 : -factor * x[(place / s * c + t) * s + place % s];
  }
}

/* dx is zero already */
void KERNEL(nll_loss_backward)(const i64 *target, const real *weight, real *dx, i64 n, i64 c,
                               i64 s, i64 ignore, double scale) {
  for (i64 place = 0; place < n * s; place++) {
    const i64 t = target[place];
    if (t == ignore) continue;
    dx[(place / s * c + t) * s + place % s] = -(real)scale * (weight ? weight[t] : 1);
  }
}

/* ln Σ eˣ over c values */
INLINE real log_sum_exp(const real *x, i64 c, i64 step) {
  real greatest = -INFINITY, sum = 0;
#pragma omp simd reduction(max : greatest)
  for (i64 k = 0; k < c; k++) greatest = x[k * step] > greatest ? x[k * step] : greatest;
#pragma omp simd reduction(+ : sum)
  for (i64 k = 0; k < c; k++) sum += exponential(x[k * step] - greatest);
  return greatest + log(sum);
}

/* −Σ share · log softmax(x); the classes' common share of smoothing is left out where it is 0,
   because 0 · ∞ is no number */
INLINE real place_loss(const real *x, i64 t, const real *weight, i64 c, i64 step,
                       real smoothing) {
  const real total = log_sum_exp(x, c, step);
  real loss = (1 - smoothing) * (weight ? weight[t] : 1) * (total - x[t * step]);
  if (smoothing == 0) return loss;
  real sum = 0;
  for (i64 k = 0; k < c; k++) sum += (weight ? weight[k] : 1) * (total - x[k * step]);
  return loss + smoothing / c * sum;
}

INLINE void place_loss_backward(const real *x, i64 t, const real *weight, real *dx, i64 c,
                                i64 step, real smoothing, real all, real scale) {
  const real total = log_sum_exp(x, c, step), part = smoothing / c;
  const real target_share = (1 - smoothing) * (weight ? weight[t] : 1);
  const real factor = target_share + part * all;
#pragma omp simd
  for (i64 k = 0; k < c; k++) {
    real share = weight ? part * weight[k] : part;
    dx[k * step] = scale * (exponential(x[k * step] - total) * factor - share);
  }
  dx[t * step] -= scale * target_share;
}

void KERNEL(cross_entropy)(const real *x, const i64 *target, const real *weight, real *losses,
                           real *weights, i64 n, i64 c, i64 s, i64 ignore, double smoothing) {
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE / 4)
  for (i64 place = 0; place < n * s; place++) {
    const real *from = x + place / s * c * s + place % s;
    const i64 t = target[place];
    weights[place] = t == ignore ? 0 : weight ? weight[t] : 1;
    losses[place] = t == ignore ? 0
                    : s == 1    ? place_loss(from, t, weight, c, 1, smoothing)
                                : place_loss(from, t, weight, c, s, smoothing);
  }
}

void KERNEL(cross_entropy_backward)(const real *x, const i64 *target, const real *weight, real *dx,
                                    i64 n, i64 c, i64 s, i64 ignore, double smoothing,
                                    double scale) {
  real all = weight ? 0 : c; /* the sum of all weights */
  for (i64 k = 0; weight && k < c; k++) all += weight[k];
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE / 4)
  for (i64 place = 0; place < n * s; place++) {
    const i64 first = place / s * c * s + place % s, t = target[place];
    if (t == ignore)
      for (i64 k = 0; k < c; k++) dx[first + k * s] = 0;
    else if (s == 1)
      place_loss_backward(x + first, t, weight, dx + first, c, 1, smoothing, all, scale);
    else
      place_loss_backward(x + first, t, weight, dx + first, c, s, smoothing, all, scale);
  }
}

/* sums[j] = Σ (x − target)² over the j-th `size` elements */
void KERNEL(squared_errors)(const real *x, const real *target, real *sums, i64 n, i64 size) {
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 start = 0; start < n; start += size) {
    const i64 end = min_i64(start + size, n);
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (i64 i = start; i < end; i++) sum += (x[i] - target[i]) * (x[i] - target[i]);
    sums[start / size] = sum;
  }
}

void KERNEL(mse_loss_backward)(const real *x, const real *target, real *dx, i64 n, double scale) {
  const real factor = 2 * scale;
#pragma omp parallel for simd if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = factor * (x[i] - target[i]);
}
