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

/* dw and db, which may be NULL, learn from total = Σ dy and product = Σ dy (x - mean) of each channel.
   What dx takes of these: centre and slope, Σ dy and Σ dy (x - mean) inv_std² over the rows. */
static void learn_columns(const double *total, const double *product, const real *inv_std, real *dw,
                          real *db, real *centre, real *slope, i64 rows, i64 c) {
  for (i64 k = 0; k < c; k++) {
    const double inverse = inv_std[k];
    if (db) db[k] += total[k];
    if (dw) dw[k] += product[k] * inverse;
    centre[k] = (real)(total[k] / rows);
    slope[k] = (real)(product[k] * (inverse * inverse) / rows);
  }
}

/* How channels are normalised: (x - mean) scale + shift. */
struct affine {
  const real *mean, *scale, *shift;
};

/* y = x, normalised, + other of x (rows, c), where c fills whole vectors, and no less than 0 after a
   ReLU (relu). other may be NULL; it is normalised as `beside` says, if that is not NULL. marks: NULL,
   or of the y above 0. */
INLINE void vectors_forward(const int relu, const real *x, const real *other, real *y,
                            unsigned char *marks, struct affine norm, const struct affine *beside,
                            i64 rows, i64 c) {
  const int far = goes_far(y, rows * c);
#pragma omp parallel if (rows * c > PARALLEL_ABOVE)
  {
#pragma omp for schedule(static) nowait
    for (i64 row = 0; row < rows; row++) {
      fetch_ahead(far, x + row * c, c, c);
      if (other) fetch_ahead(far, other + row * c, c, c);
      for (i64 k = 0, at = row * c; k < c; k += LANES, at += LANES) {
        vec v = normal(load(x + at) - load(norm.mean + k), norm.scale, norm.shift, k);
        if (beside)
          v += normal(load(other + at) - load(beside->mean + k), beside->scale, beside->shift, k);
        else if (other)
          v += load(other + at);
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

/* How x (rows, c) is normalised by the batch's statistics, which are written to mean and inv_std; the
   running ones move. work, channels: memory for 2 c numbers a part, and for 2 c. */
static struct affine learned(const real *x, const real *w, const real *b, real *mean, real *inv_std,
                             real *running_mean, real *running_var, double *work, real *channels,
                             i64 rows, i64 c, i64 parts, double momentum, double eps) {
  column_moments(x, work, rows, c, parts);
  for (i64 k = 0; k < c; k++)
    learn(work[k], work[c + k], rows, k, mean, inv_std, running_mean, running_var, momentum, eps);
  affine_channels(w, b, inv_std, channels, channels + c, c);
  return (struct affine){mean, channels, channels + c};
}

/* What the gradient of x takes: scale (g - centre - (x - mean) slope). dx may be NULL. */
struct backward {
  const real *x, *mean, *scale, *centre, *slope;
  real *dx;
};

/* The same of two x with one g: dy where y is above 0, or has marks; either is NULL. */
static void pairs_backward(const struct backward *one, const struct backward *two, const real *dy,
                           const real *y, const unsigned char *marks, i64 rows, i64 c) {
  const int far = goes_far(one->dx, rows * c) && goes_far(two->dx, rows * c);
#pragma omp parallel if (rows * c > PARALLEL_ABOVE)
  {
    const struct backward both[2] = {*one, *two};
#pragma omp for schedule(static) nowait
    for (i64 row = 0; row < rows; row++) {
      fetch_ahead(far, dy + row * c, c, c);
      if (y) fetch_ahead(far, y + row * c, c, c);
      for (int i = 0; i < 2; i++) fetch_ahead(far, both[i].x + row * c, c, c);
      for (i64 k = 0, at = row * c; k < c; k += LANES, at += LANES) {
        vec g = load(dy + at);
        g = marks ? marked(g, marks, at) : passed(g, load(y + at));
#pragma GCC unroll 2
        for (int i = 0; i < 2; i++) {
          const struct backward *p = &both[i];
          if (!p->dx) continue;
          vec apart = load(p->x + at) - load(p->mean + k);
          vec by = g - load(p->centre + k) - apart * load(p->slope + k);
          put(far, p->dx + at, load(p->scale + k) * by);
        }
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
