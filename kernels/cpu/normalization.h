/* What batch normalisation does with the statistics of its channels: see normalization.c and
   norm_relu.c. */
#pragma once
#include "columns.h"

/* A channel's mean and inv_std from its moments; the running statistics move, if there are any. */
static void learn(double centre, double squares, i64 count, i64 k, real *mean, real *inv_std,
                  real *running_mean, real *running_var, double momentum, double eps) {
  mean[k] = (real)centre;
  inv_std[k] = (real)(1 / sqrt(squares / count + eps));
  if (!running_mean) return;
  running_mean[k] += momentum * (centre - running_mean[k]);
  running_var[k] += momentum * (squares / (count - 1) - running_var[k]);
}

/* dw and db, which may be NULL, learn from work = Σ dy and Σ dy (x - mean) of each channel. What
   dx takes of these: centre and slope, Σ dy and Σ dy (x - mean) inv_std² over the rows. */
static void learn_columns(const double *work, const real *inv_std, real *dw, real *db,
                          real *centre, real *slope, i64 rows, i64 c) {
  const double *total = work, *product = work + c;
  for (i64 k = 0; k < c; k++) {
    const double inverse = inv_std[k];
    if (db) db[k] += total[k];
    if (dw) dw[k] += product[k] * inverse;
    centre[k] = (real)(total[k] / rows);
    slope[k] = (real)(product[k] * (inverse * inverse) / rows);
  }
}

/* y = (x - mean) scale + shift + other of x (rows, c), where c fills whole vectors, and no less than 0
   after a ReLU (relu); other may be NULL. marks: NULL, or of the y above 0. */
INLINE void vectors_forward(const int relu, const real *x, const real *other, real *y,
                            unsigned char *marks, const real *mean, const real *scale,
                            const real *shift, i64 rows, i64 c) {
  const int far = goes_far(y, rows * c);
#pragma omp parallel if (rows * c > PARALLEL_ABOVE)
  {
#pragma omp for schedule(static) nowait
    for (i64 row = 0; row < rows; row++) {
      fetch_ahead(far, x + row * c, c, c);
      if (other) fetch_ahead(far, other + row * c, c, c);
      for (i64 k = 0, at = row * c; k < c; k += LANES, at += LANES) {
        vec v = normal(load(x + at) - load(mean + k), scale, shift, k);
        if (other) v += load(other + at);
        if (relu && marks) mark(marks, at, v);
        put(far, y + at, relu ? GREATER((vec){0}, v) : v);
      }
    }
    streamed();
  }
}

/* The factor of each channel and what is added to it. */
static void affine_channels(const real *w, const real *b, const real *inv_std, real *scale,
                            real *shift, i64 c) {
  for (i64 k = 0; k < c; k++) {
    scale[k] = w ? inv_std[k] * w[k] : inv_std[k];
    shift[k] = b ? b[k] : 0;
  }
}

/* dx = scale (g - centre - (x - mean) slope) of x (rows, c), where c fills whole vectors. g: NULL for dy
   where a ReLU passed what normal() gives. */
static void vectors_backward(const real *x, const real *dy, const real *g, real *dx,
                             const real *mean, const real *scale, const real *shift,
                             const real *centre, const real *slope, i64 rows, i64 c) {
  const int far = goes_far(dx, rows * c);
#pragma omp parallel if (rows * c > PARALLEL_ABOVE)
  {
#pragma omp for schedule(static) nowait
    for (i64 row = 0; row < rows; row++) {
      fetch_ahead(far, x + row * c, c, c);
      fetch_ahead(far, (g ? g : dy) + row * c, c, c);
      for (i64 k = 0, at = row * c; k < c; k += LANES, at += LANES) {
        vec apart = load(x + at) - load(mean + k), by;
        if (g)
          by = load(g + at);
        else
          by = passed(load(dy + at), normal(apart, scale, shift, k));
        by = by - load(centre + k) - apart * load(slope + k);
        put(far, dx + at, load(scale + k) * by);
      }
    }
    streamed();
  }
}

/* dx = scale (dy - centre - (x - mean) slope) of x (rows, c) */
static void columns_backward(const real *x, const real *dy, real *dx, const real *mean,
                             const real *scale, const real *centre, const real *slope, i64 rows,
                             i64 c) {
  if (c % LANES == 0) {
    vectors_backward(x, NULL, dy, dx, mean, scale, NULL, centre, slope, rows, c);
    return;
  }
#pragma omp parallel for if (rows * c > PARALLEL_ABOVE)
  for (i64 row = 0; row < rows; row++) {
    const real *in = x + row * c, *by = dy + row * c;
    real *out = dx + row * c;
#pragma omp simd
    for (i64 k = 0; k < c; k++)
      out[k] = scale[k] * (by[k] - centre[k] - (in[k] - mean[k]) * slope[k]);
  }
}
