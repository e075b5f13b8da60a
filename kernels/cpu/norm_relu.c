/* Batch normalisation, a sum and a ReLU in one pass over x (rows, c), whose channels lie innermost
   in memory and fill whole vectors. Backward finds out anew where the ReLU passed, from x. */
#include "columns.h"
#include "normalization.h"

/* The factor of each channel and what is added to it. */
static void affine_channels(const real *w, const real *b, const real *inv_std, real *scale,
                            real *shift, i64 c) {
  for (i64 k = 0; k < c; k++) {
    scale[k] = w ? inv_std[k] * w[k] : inv_std[k];
    shift[k] = b ? b[k] : 0;
  }
}

/* y = max((x - mean) scale + shift + other, 0) by the batch's statistics, which are written to mean
   and inv_std; the running ones move. other, w, b and the running ones may be NULL.
   work, channels: memory for 2 c numbers a part, and for 2 c. */
void KERNEL(norm_relu)(const real *x, const real *other, const real *w, const real *b, real *y,
                       real *mean, real *inv_std, real *running_mean, real *running_var,
                       double *work, real *channels, i64 rows, i64 c, i64 parts, double momentum,
                       double eps) {
  real *scale = channels, *shift = channels + c;
  column_moments(x, work, rows, c, parts);
  for (i64 k = 0; k < c; k++)
    learn(work[k], work[c + k], rows, k, mean, inv_std, running_mean, running_var, momentum, eps);
  affine_channels(w, b, inv_std, scale, shift, c);
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
        put(far, y + at, GREATER((vec){0}, v));
      }
    }
    streamed();
  }
}

/* sums = Σ g and products = Σ g (x - mean) of some columns, where g is dy where the ReLU passed:
   where y > 0, if there is y; then g is written too. */
INLINE void relu_sums_of_rows(const real *x, const real *y, const real *dy, real *g,
                              const real *mean, const real *scale, const real *shift, double *sums,
                              double *products, i64 rows, i64 step, i64 count, const int far) {
  for (i64 k = 0; k < count; k++) sums[k] = products[k] = 0;
  for (i64 start = 0; start < rows; start += ROW_PART) {
    real first[COLUMN_BLOCK] = {0}, second[COLUMN_BLOCK] = {0};
    for (i64 i = start; i < min_i64(rows, start + ROW_PART); i++) {
      fetch_ahead(far, x + i * step, step, count);
      fetch_ahead(far, dy + i * step, step, count);
      if (y) fetch_ahead(far, y + i * step, step, count);
      for (i64 k = 0, at = i * step; k < count; k += LANES, at += LANES) {
        vec apart = load(x + at) - load(mean + k), product = load(second + k);
        vec by = passed(load(dy + at), y ? load(y + at) : normal(apart, scale, shift, k));
        if (y) put(far, g + at, by);
        store(first + k, load(first + k) + by);
        MULTIPLY_ADD(product, apart, by);
        store(second + k, product);
      }
    }
    if (y) streamed();
    for (i64 k = 0; k < count; k++) sums[k] += first[k], products[k] += second[k];
  }
}

/* work[0] = Σ g and Σ g (x - mean) of each column; y and g may both be NULL */
static void norm_relu_sums(const real *x, const real *y, const real *dy, real *g, const real *mean,
                           const real *scale, const real *shift, double *work, i64 rows, i64 c,
                           i64 parts) {
  const int far = goes_far(g, rows * c); /* NULL is at a line */
  COLUMN_PARTS(double *sums = work + 2 * part * c + at; const i64 first = from * c + at;
               if (y)
                 relu_sums_of_rows(x + first, y + first, dy + first, g + first, mean + at,
                                   scale + at, shift + at, sums, sums + c, to - from, c, count, far);
               else
                 relu_sums_of_rows(x + first, NULL, dy + first, NULL, mean + at, scale + at,
                                   shift + at, sums, sums + c, to - from, c, count, far))
  for (i64 part = 1; part < parts; part++)
    for (i64 k = 0; k < 2 * c; k++) work[k] += work[2 * part * c + k];
}

/* dw += Σ g x̂, db += Σ g, dx = w inv_std (g - (Σ g + x̂ Σ g x̂) / rows); dw, db, dx may be NULL.
   y, g: NULL, or both what norm_relu gave when it had `other`, and g is written.
   work, channels: memory for 2 c numbers a part, and for 4 c. */
void KERNEL(norm_relu_backward)(const real *x, const real *y, const real *dy, const real *w,
                                const real *b, real *dw, real *db, real *g, real *dx,
                                const real *mean, const real *inv_std, double *work,
                                real *channels, i64 rows, i64 c, i64 parts) {
  real *scale = channels, *shift = scale + c, *centre = shift + c, *slope = centre + c;
  affine_channels(w, b, inv_std, scale, shift, c);
  norm_relu_sums(x, y, dy, g, mean, scale, shift, work, rows, c, parts);
  learn_columns(work, inv_std, dw, db, centre, slope, rows, c);
  if (dx) vectors_backward(x, dy, g, dx, mean, scale, shift, centre, slope, rows, c);
}
