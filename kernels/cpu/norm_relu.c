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
  real *scale = channels, *shift = channels + c;
  column_moments(x, work, rows, c, parts);
  for (i64 k = 0; k < c; k++)
    learn(work[k], work[c + k], rows, k, mean, inv_std, running_mean, running_var, momentum, eps);
  affine_channels(w, b, inv_std, scale, shift, c);
  vectors_forward(1, x, other, y, marks, mean, scale, shift, rows, c);
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
  learn_columns(work, inv_std, dw, db, centre, slope, rows, c);
  if (dx) vectors_backward(x, dy, g, dx, mean, scale, shift, centre, slope, rows, c);
}

/* Whether norm_relu can write marks. */
i64 KERNEL(norm_relu_marks)(const real *unused) { return (void)unused, MARKS; }
