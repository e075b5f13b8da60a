/* What batch normalisation does with the statistics of its channels: see normalization.c and
   norm_relu.c. */
#pragma once

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

/* dx = scale (dy - centre - (x - mean) slope) of x (rows, c) */
static void columns_backward(const real *x, const real *dy, real *dx, const real *mean,
                             const real *scale, const real *centre, const real *slope, i64 rows,
                             i64 c) {
#pragma omp parallel for if (rows * c > PARALLEL_ABOVE)
  for (i64 row = 0; row < rows; row++) {
    const real *in = x + row * c, *by = dy + row * c;
    real *out = dx + row * c;
#pragma omp simd
    for (i64 k = 0; k < c; k++)
      out[k] = scale[k] * (by[k] - centre[k] - (in[k] - mean[k]) * slope[k]);
  }
}
