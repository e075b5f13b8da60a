/* Batch normalisation, a sum and a ReLU in one pass over x (rows, c), whose channels lie innermost
   in memory and fill whole vectors. Backward finds out anew where the ReLU passed, from x. */
#include "columns.h"
#include "normalization.h"

/* y = max((x - mean) scale + shift + other, 0) by the batch's statistics, which are written to mean
   and inv_std; the running ones move. other, w, b and the running ones may be NULL.
   marks: NULL, or memory for a bit for each y, which says whether it is above 0.
   work, channels: memory for 2 c numbers a part, and for 2 c. */
void KERNEL(norm_relu)(const real *x, const real *other, const real *w, const real *b, real *y,
                       unsigned char *marks, real *mean, real *inv_std, real *running_mean,
                       real *running_var, double *work, real *channels, i64 rows, i64 c, i64 parts,
                       double momentum, double eps) {
  struct affine norm = learned(x, w, b, mean, inv_std, running_mean, running_var, work, channels,
                               rows, c, parts, momentum, eps);
  vectors_forward(1, x, other, y, marks, norm, NULL, rows, c);
}

/* dw += Σ g x̂, db += Σ g, dx = w inv_std (g - (Σ g + x̂ Σ g x̂) / rows); dw, db, dx may be NULL.
   y or marks: what norm_relu gave when it had `other`, and then g is written; else all three are NULL.
   work, channels: memory for 2 c numbers a part, and for 4 c. */
void KERNEL(norm_relu_backward)(const real *x, const real *y, const unsigned char *marks,
                                const real *dy, const real *w, const real *b, real *dw, real *db,
                                real *g, real *dx, const real *mean, const real *inv_std,
                                double *work, real *channels, i64 rows, i64 c, i64 parts) {
  real *scale = channels, *shift = scale + c, *centre = shift + c, *slope = centre + c;
  affine_channels(w, b, inv_std, scale, shift, c);
  struct gradients p = {x, y, dy, mean, scale, shift, marks, g};
  column_sums(marks ? BY_MARKS : y ? BY_Y : BY_X, &p, work, rows, c, parts);
  learn_columns(work, work + c, inv_std, dw, db, centre, slope, rows, c);
  if (dx) vectors_backward(x, dy, g, dx, mean, scale, shift, centre, slope, rows, c);
}

/* norm_relu where other is normalised too, by its own statistics.
   work, channels: memory for 2 c numbers a part, and for 4 c. */
void KERNEL(norm_pair_relu)(const real *x, const real *other, real *y, unsigned char *marks,
                            const real *w, const real *b, real *mean, real *inv_std,
                            real *running_mean, real *running_var, const real *other_w,
                            const real *other_b, real *other_mean, real *other_inv_std,
                            real *other_running_mean, real *other_running_var, double *work,
                            real *channels, i64 rows, i64 c, i64 parts, double momentum, double eps,
                            double other_momentum, double other_eps) {
  struct affine norm = learned(x, w, b, mean, inv_std, running_mean, running_var, work, channels,
                               rows, c, parts, momentum, eps);
  struct affine beside = learned(other, other_w, other_b, other_mean, other_inv_std,
                                 other_running_mean, other_running_var, work, channels + 2 * c,
                                 rows, c, parts, other_momentum, other_eps);
  vectors_forward(1, x, other, y, marks, norm, &beside, rows, c);
}

/* The gradients of both, as norm_relu_backward has them. y or marks: what norm_pair_relu gave.
   work, channels: memory for 3 c numbers a part, and for 5 c. */
void KERNEL(norm_pair_relu_backward)(const real *x, const real *other, const real *y,
                                     const unsigned char *marks, const real *dy, const real *w,
                                     real *dw, real *db, real *dx, const real *mean,
                                     const real *inv_std, const real *other_w, real *other_dw,
                                     real *other_db, real *other_dx, const real *other_mean,
                                     const real *other_inv_std, double *work, real *channels,
                                     i64 rows, i64 c, i64 parts) {
  real *centre = channels, *scale = centre + c, *slope = scale + c;
  real *other_scale = slope + c, *other_slope = other_scale + c;
  struct gradients p = {.x = x, .y = y, .dy = dy, .mean = mean, .marks = marks,
                        .other = other, .other_mean = other_mean};
  column_sums(marks ? PAIR_BY_MARKS : PAIR_BY_Y, &p, work, rows, c, parts);
  learn_columns(work, work + c, inv_std, dw, db, centre, slope, rows, c);
  learn_columns(work, work + 2 * c, other_inv_std, other_dw, other_db, centre, other_slope, rows, c);
  for (i64 k = 0; k < c; k++) {
    scale[k] = w ? inv_std[k] * w[k] : inv_std[k];
    other_scale[k] = other_w ? other_inv_std[k] * other_w[k] : other_inv_std[k];
  }
  struct backward one = {x, mean, scale, centre, slope, dx};
  struct backward two = {other, other_mean, other_scale, centre, other_slope, other_dx};
  if (dx || other_dx) pairs_backward(&one, &two, dy, y, marks, rows, c);
}

/* Whether norm_relu can write marks. */
i64 KERNEL(norm_relu_marks)(const real *unused) { return (void)unused, MARKS; }
