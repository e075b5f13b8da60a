/* Functions of one value, applied to every element. */
#include "exponential.h"

void KERNEL(relu)(const real *x, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = x[i] < 0 ? 0 : x[i]; /* NaN stays NaN */
}

void KERNEL(relu_backward)(const real *x, const real *dy, real *dx, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = x[i] > 0 ? dy[i] : 0;
}

void KERNEL(clamp)(const real *x, real *y, double low, double high, i64 n) {
  const real least = low, most = high;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real v = x[i] < least ? least : x[i];
    y[i] = v > most ? most : v;
  }
}

void KERNEL(clamp_backward)(const real *x, const real *dy, real *dx, double low, double high,
                            i64 n) {
  const real least = low, most = high;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = (x[i] > least) & (x[i] < most) ? dy[i] : 0;
}

void KERNEL(leaky_relu)(const real *x, real *y, double slope, i64 n) {
  const real factor = slope;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : factor * x[i];
}

void KERNEL(leaky_relu_backward)(const real *x, const real *dy, real *dx, double slope, i64 n) {
  const real factor = slope;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = x[i] > 0 ? dy[i] : factor * dy[i];
}

/* x (n, c, s), w (c,); with s = 1 the loops go over the channels */
void KERNEL(prelu)(const real *x, const real *w, real *y, i64 n, i64 c, i64 s) {
  if (s == 1) {
#pragma omp parallel for if (n * c > PARALLEL_ABOVE)
    for (i64 row = 0; row < n; row++)
#pragma omp simd
      for (i64 k = 0; k < c; k++)
        y[row * c + k] = x[row * c + k] > 0 ? x[row * c + k] : w[k] * x[row * c + k];
    return;
  }
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * c; row++) {
    const real slope = w[row % c];
#pragma omp simd
    for (i64 i = row * s; i < (row + 1) * s; i++) y[i] = x[i] > 0 ? x[i] : slope * x[i];
  }
}

void KERNEL(prelu_backward)(const real *x, const real *dy, const real *w, real *dx, i64 n, i64 c,
                            i64 s) {
  if (s == 1) {
#pragma omp parallel for if (n * c > PARALLEL_ABOVE)
    for (i64 row = 0; row < n; row++)
#pragma omp simd
      for (i64 k = 0; k < c; k++)
        dx[row * c + k] = x[row * c + k] > 0 ? dy[row * c + k] : w[k] * dy[row * c + k];
    return;
  }
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * c; row++) {
    const real slope = w[row % c];
#pragma omp simd
    for (i64 i = row * s; i < (row + 1) * s; i++) dx[i] = x[i] > 0 ? dy[i] : slope * dy[i];
  }
}

/* One thread a channel, rows in order: the same sums whatever the threads. */
void KERNEL(prelu_slopes)(const real *x, const real *dy, real *dw, i64 n, i64 c, i64 s) {
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 channel = 0; channel < c; channel++) {
    double total = 0;
    for (i64 row = channel; row < n * c; row += c) {
      real sum = 0;
#pragma omp simd reduction(+ : sum)
      for (i64 i = row * s; i < (row + 1) * s; i++) sum += x[i] > 0 ? 0 : dy[i] * x[i];
      total += sum;
    }
    dw[channel] += total;
  }
}

void KERNEL(elu)(const real *x, real *y, double alpha, i64 n) {
  const real factor = alpha;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real below = exponential_minus_1(x[i] > 0 ? 0 : x[i]);
    y[i] = x[i] > 0 ? x[i] : factor * below;
  }
}

void KERNEL(elu_backward)(const real *x, const real *dy, real *dx, double alpha, i64 n) {
  const real factor = alpha;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real below = falling_exponential(x[i] > 0 ? 0 : x[i]);
    dx[i] = x[i] > 0 ? dy[i] : factor * below * dy[i];
  }
}

void KERNEL(sigmoid)(const real *x, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = logistic(x[i]);
}

void KERNEL(sigmoid_backward)(const real *x, const real *dy, real *dx, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real e = falling_exponential(-magnitude(x[i]));
    dx[i] = dy[i] * e / ((1 + e) * (1 + e));
  }
}

/* tanh |x| = −e / (2 + e) with e = e^(−2|x|) − 1, which is exact near 0 */
INLINE real hyperbolic_tangent(real x) {
  real e = exponential_minus_1(-2 * magnitude(x)), y = e / (2 + e);
  return x < 0 ? y : -y;
}

void KERNEL(tanh)(const real *x, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = hyperbolic_tangent(x[i]);
}

void KERNEL(tanh_backward)(const real *x, const real *dy, real *dx, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real e = falling_exponential(-2 * magnitude(x[i])), half = (real)0.5 * e + (real)0.5;
    dx[i] = dy[i] * e / (half * half); /* 1 − y² = 4e / (1 + e)² */
  }
}

void KERNEL(softplus)(const real *x, real *y, double beta, i64 n) {
  const real steepness = beta;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real z = steepness * x[i], e = falling_exponential(-magnitude(z));
    y[i] = ((z > 0 ? z : 0) + logarithm_plus_1(e)) / steepness;
  }
}

void KERNEL(softplus_backward)(const real *x, const real *dy, real *dx, double beta, i64 n) {
  const real steepness = beta;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = dy[i] * logistic(steepness * x[i]);
}
