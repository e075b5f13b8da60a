/* Sums, products and powers, element by element. The output may be one of the inputs. */
#include "exponential.h"

void KERNEL(add)(const real *a, const real *b, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = a[i] + b[i];
}

void KERNEL(mul)(const real *a, const real *b, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = a[i] * b[i];
}

void KERNEL(maximum)(const real *a, const real *b, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real greater = b[i] > a[i] ? b[i] : a[i];
    y[i] = b[i] != b[i] ? b[i] : greater; /* NaN in either stays NaN */
  }
}

/* dx takes what is left of dy where x is the greatest; dy keeps the rest for the inputs to come. */
void KERNEL(maximum_backward)(const real *x, const real *y, real *dy, real *dx, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real left = dy[i];
    dx[i] = x[i] == y[i] ? left : 0;
    dy[i] = x[i] == y[i] ? 0 : left;
  }
}

void KERNEL(affine)(const real *x, real *y, double scale, double shift, i64 n) {
  const real factor = scale, summand = shift;
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = factor * x[i] + summand;
}

/* y = w x + b for x (n, c) */
static void scale_columns(const real *x, const real *w, const real *b, real *y, i64 n, i64 c) {
#pragma omp parallel for if (n * c > PARALLEL_ABOVE)
  for (i64 row = 0; row < n; row++)
#pragma omp simd
    for (i64 k = 0; k < c; k++)
      y[row * c + k] = (w ? w[k] : 1) * x[row * c + k] + (b ? b[k] : 0);
}

/* x (n, c, s) */
void KERNEL(channel_scale)(const real *x, const real *w, const real *b, real *y, i64 n, i64 c,
                           i64 s) {
  if (s == 1) {
    scale_columns(x, w, b, y, n, c);
    return;
  }
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * c; row++) {
    const real factor = w ? w[row % c] : 1, summand = b ? b[row % c] : 0;
    for (i64 i = row * s; i < (row + 1) * s; i++) y[i] = factor * x[i] + summand;
  }
}

/* One thread a channel, rows in order: the same sums whatever the threads. */
void KERNEL(channel_scale_sums)(const real *x, const real *dy, real *dw, real *db, i64 n, i64 c,
                                i64 s) {
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 channel = 0; channel < c; channel++) {
    double products = 0, sums = 0;
    for (i64 row = channel; row < n * c; row += c) {
      const real *from = x + row * s, *by = dy + row * s;
      real product = 0, sum = 0;
#pragma omp simd reduction(+ : product, sum)
      for (i64 i = 0; i < s; i++) {
        product += from[i] * by[i];
        sum += by[i];
      }
      products += product;
      sums += sum;
    }
    if (dw) dw[channel] += products;
    if (db) db[channel] += sums;
  }
}

/* x^p; for p = 1/2 the square root, as in NumPy: of -inf there is none, but C's power gives inf */
INLINE real raised(real x, real p) {
  if (p == (real)0.5) return sizeof(real) == 4 ? sqrtf(x) : sqrt(x);
  return sizeof(real) == 4 ? powf(x, p) : pow(x, p);
}

void KERNEL(power)(const real *x, real *y, double exponent, i64 n) {
  const real p = exponent;
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = raised(x[i], p);
}

void KERNEL(exp)(const real *x, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = exponential(x[i]);
}

void KERNEL(log)(const real *x, real *y, i64 n) {
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = sizeof(real) == 4 ? logf(x[i]) : log(x[i]);
}

void KERNEL(log_backward)(const real *x, const real *dy, real *dx, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = dy[i] / x[i];
}

void KERNEL(abs)(const real *x, real *y, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) y[i] = sizeof(real) == 4 ? fabsf(x[i]) : fabs(x[i]);
}

void KERNEL(abs_backward)(const real *x, const real *dy, real *dx, i64 n) {
#pragma omp parallel for simd if (parallel : n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) dx[i] = x[i] > 0 ? dy[i] : x[i] < 0 ? -dy[i] : x[i] * dy[i];
}
