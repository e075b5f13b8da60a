/* Losses: x is (n, c, s), target (n, s) holds classes; a place is one of the n s rows of c values.

   Each place writes its own loss and weight; their sum is taken afterwards in a fixed order. */
#include "softmax.h"

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

/* Σ weight (total − x) of a place, over its c classes */
INLINE real loss_of_all(const real *x, const real *weight, i64 c, const i64 step, real total) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (i64 k = 0; k < c; k++) sum += (weight ? weight[k] : 1) * (total - x[k * step]);
  return sum;
}

/* −Σ share · log softmax(x) of the places of a part, whose sums are logarithms by now; the classes'
   common share of smoothing is left out where it is 0, because 0 · ∞ is no number */
INLINE void part_losses(const real *x, const i64 *target, const real *weight, struct softmax s,
                        const struct softmax_part *p, i64 ignore, real smoothing, real *losses,
                        real *weights) {
  for (i64 j = 0; j < p->rows; j++) {
    const i64 t = target[j];
    weights[j] = t == ignore ? 0 : weight ? weight[t] : 1;
    losses[j] = 0;
    if (t == ignore) continue;
    real loss = p->sum[j] + (p->greatest[j] - x[t * s.inner + j]);
    losses[j] = (1 - smoothing) * weights[j] * loss;
    if (smoothing == 0) continue;
    const real total = p->greatest[j] + p->sum[j], part = smoothing / s.count;
    losses[j] += part * (s.inner == 1 ? loss_of_all(x, weight, s.count, 1, total)
                                      : loss_of_all(x + j, weight, s.count, s.inner, total));
  }
}

void KERNEL(cross_entropy)(const real *x, const i64 *target, const real *weight, real *losses,
                           real *weights, double *totals, i64 n, i64 c, i64 places, i64 ignore,
                           double smoothing) {
  const struct softmax s = softmax_of(n, c, places);
  EACH_PART(s, NULL, p) {
    exponentials(x, NULL, s, &p, 0, 0);
#pragma omp simd
    for (i64 j = 0; j < p.rows; j++) p.sum[j] = logarithm_above_1(p.sum[j]);
    part_losses(x + p.start, target + p.place, weight, s, &p, ignore, smoothing, losses + p.place,
                weights + p.place);
  }
  loss_totals(losses, weights, n * places, totals);
}

/* dx = mass e − part weight of each class: all but the target's own share; mass: of each place, the
   sum of shares over that of e */
INLINE void common_slopes(real *dx, const real *mass, const real *weight, real part,
                          struct softmax s, const struct softmax_part *p) {
  const real *e = p->e;
  if (s.inner == 1) {
    const real factor = mass[0];
#pragma omp simd
    for (i64 k = 0; k < s.count; k++) dx[k] = factor * e[k] - (weight ? part * weight[k] : part);
    return;
  }
  for (i64 k = 0; k < s.count; k++, dx += s.inner, e += p->step) {
    const real share = weight ? part * weight[k] : part;
#pragma omp simd
    for (i64 j = 0; j < p->rows; j++) dx[j] = mass[j] * e[j] - share;
  }
}

/* dx = scale · (softmax(x) Σ share − share) */
void KERNEL(cross_entropy_backward)(const real *x, real *dx, const i64 *target, const real *weight,
                                    i64 n, i64 c, i64 places, i64 ignore, double smoothing,
                                    double scale) {
  const struct softmax s = softmax_of(n, c, places);
  const real common = scale * smoothing / c, own = scale * (1 - smoothing);
  double all = weight ? 0 : c;
  for (i64 k = 0; weight && k < c; k++) all += weight[k];
  const real rest = common * all;
  EACH_PART(s, dx, p) {
    const i64 *t = target + p.place;
    real *to = dx + p.start;
    exponentials(x, NULL, s, &p, 1, 0);
    for (i64 j = 0; j < p.rows; j++)
      p.dot[j] = t[j] == ignore ? 0 : ((weight ? own * weight[t[j]] : own) + rest) / p.sum[j];
    common_slopes(to, p.dot, weight, common, s, &p);
    for (i64 j = 0; j < p.rows; j++) {
      if (t[j] != ignore) to[t[j] * s.inner + j] -= weight ? own * weight[t[j]] : own;
      for (i64 k = 0; t[j] == ignore && k < c; k++) to[k * s.inner + j] = 0;
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
