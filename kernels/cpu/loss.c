/* Losses: x is (n, c, s), target (n, s) holds classes; a place is one of the n s rows of c values.

   Each place writes its own loss and weight; their sum is taken afterwards in a fixed order. */
#include "exponential.h"

/* totals = (Σ losses, Σ weights) of n places */
static void loss_totals(const real *losses, const real *weights, i64 n, double *totals) {
  double loss = 0, weight = 0;
#pragma omp simd reduction(+ : loss, weight)
  for (i64 i = 0; i < n; i++) {
    loss += losses[i];
    weight += weights[i];
  }
  totals[0] = loss;
  totals[1] = weight;
}

/* losses, weights: (n s) numbers of work */
void KERNEL(nll_loss)(const real *x, const i64 *target, const real *weight, real *losses,
                      real *weights, double *totals, i64 n, i64 c, i64 s, i64 ignore) {
#pragma omp parallel for if (n * s > PARALLEL_ABOVE)
  for (i64 place = 0; place < n * s; place++) {
    const i64 t = target[place];
    const real factor = t == ignore ? 0 : weight ? weight[t] : 1;
    weights[place] = factor;
    losses[place] = t == ignore ? 0 : -factor * x[(place / s * c + t) * s + place % s];
  }
  loss_totals(losses, weights, n * s, totals);
}

/* dx is zero already */
void KERNEL(nll_loss_backward)(real *dx, const i64 *target, const real *weight, i64 n, i64 c,
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

void KERNEL(cross_entropy)(const real *x, const i64 *target, const real *weight, real *losses,
                           real *weights, double *totals, i64 n, i64 c, i64 s, i64 ignore,
                           double smoothing) {
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE / 4)
  for (i64 place = 0; place < n * s; place++) {
    const real *from = x + place / s * c * s + place % s;
    const i64 t = target[place];
    weights[place] = t == ignore ? 0 : weight ? weight[t] : 1;
    losses[place] = t == ignore ? 0
                    : s == 1    ? place_loss(from, t, weight, c, 1, smoothing)
                                : place_loss(from, t, weight, c, s, smoothing);
  }
  loss_totals(losses, weights, n * s, totals);
}

/* The gradient by one value: y its softmax, k its class, t the target; all the sum of weights. */
INLINE real slope(real y, i64 k, i64 t, const real *weight, real all, real part, real rest) {
  const real target_share = weight ? rest * weight[t] : rest;
  const real share = (weight ? part * weight[k] : part) + (k == t ? target_share : 0);
  return y * (target_share + part * all) - share;
}

void KERNEL(softmax)(const real *x, real *y, i64 outer, i64 count, i64 inner); /* softmax.c */

/* dx = scale · (softmax(x) Σ share − share) */
void KERNEL(cross_entropy_backward)(const real *x, real *dx, const i64 *target, const real *weight, i64 n, i64 c,
                                    i64 s, i64 ignore, double smoothing, double scale) {
  const real part = smoothing / c, rest = 1 - smoothing, factor = scale;
  real all = weight ? 0 : c;
  for (i64 k = 0; weight && k < c; k++) all += weight[k];
  KERNEL(softmax)(x, dx, n, c, s);
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 row = 0; row < (s == 1 ? n : n * c); row++) {
    if (s == 1) {
      real *to = dx + row * c;
      const i64 t = target[row];
      if (t == ignore) memset(to, 0, c * sizeof(real));
      for (i64 k = 0; k < c && t != ignore; k++)
        to[k] = factor * slope(to[k], k, t, weight, all, part, rest);
    } else {
      real *to = dx + row * s;
      const i64 *targets = target + row / c * s;
      for (i64 j = 0; j < s; j++)
        to[j] = targets[j] == ignore
                    ? 0
                    : factor * slope(to[j], row % c, targets[j], weight, all, part, rest);
    }
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
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = factor * (x[i] - target[i]);
}
