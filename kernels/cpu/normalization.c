/* Normalisation by batch statistics and by local energy. For batch norm x is (n, c, s), for local
   response norm (n, c, h, w). */
#include "normalization.h"
#include "sum.h"

#if REAL_IS_FLOAT
#define REAL_SQRT sqrtf
#define REAL_POW powf
#else
#define REAL_SQRT sqrt
#define REAL_POW pow
#endif

enum { CHUNK = 8192 }; /* values of a channel between two looks at them: they stay in cache */

/* How many values, their mean, and the sum of their squared distances from it. */
typedef struct {
  double count, mean, squares;
} Moments;

/* One channel's moments: x its first value, rows of s values step apart. Chunks are joined by the
   formula of Chan, Golub and LeVeque, which loses no digits where the mean is large. */
static Moments moments(const real *x, i64 n, i64 step, i64 s) {
  Moments all = {0};
  i64 rows = max_i64(1, CHUNK / s);
  for (i64 start = 0; start < n; start += rows) {
    i64 end = min_i64(n, start + rows);
    double total = 0, squares = 0, count = (double)((end - start) * s);
    for (i64 i = start; i < end; i++) total += sum(x + i * step, s);
    real mean = (real)(total / count);
    for (i64 i = start; i < end; i++) squares += sum_of_squares(x + i * step, mean, s);
    double off = total / count - mean; /* the squares were taken from the rounded mean */
    double apart = total / count - all.mean, both = all.count + count;
    all.squares += squares - count * off * off + apart * apart * all.count * count / both;
    all.mean += apart * count / both;
    all.count = both;
  }
  return all;
}

/* y = (x - mean) scale + shift */
INLINE void normalize(const real *x, real *y, real mean, real scale, real shift, i64 n) {
#pragma omp simd
  for (i64 i = 0; i < n; i++) y[i] = (x[i] - mean) * scale + shift;
}

/* By the batch's statistics, which are written to mean and inv_std; the running ones move. */
void KERNEL(batch_norm_training)(const real *x, const real *w, const real *b, real *y, real *mean,
                                 real *inv_std, real *running_mean, real *running_var, i64 n, i64 c,
                                 i64 s, double momentum, double eps) {
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 k = 0; k < c; k++) {
    Moments m = moments(x + k * s, n, c * s, s);
    learn(m.mean, m.squares, n * s, k, mean, inv_std, running_mean, running_var, momentum, eps);
    real scale = w ? inv_std[k] * w[k] : inv_std[k];
    for (i64 i = k; i < n * c; i += c)
      normalize(x + i * s, y + i * s, mean[k], scale, b ? b[k] : 0, s);
  }
}

/* y = (x - mean) inv_std w + b for x (n, c), whose channels go together as vectors; channels: memory
   for 2 c numbers */
static void normalize_columns(const real *x, const real *w, const real *b, real *y,
                              const real *mean, const real *inv_std, real *channels, i64 n,
                              i64 c) {
  real *scale = channels, *shift = channels + c;
  affine_channels(w, b, inv_std, scale, shift, c);
  if (c % LANES == 0) {
    vectors_forward(0, x, NULL, y, NULL, (struct affine){mean, scale, shift}, NULL, n, c);
    return;
  }
#pragma omp parallel for if (n * c > PARALLEL_ABOVE)
  for (i64 row = 0; row < n; row++) {
    const real *in = x + row * c;
    real *out = y + row * c;
#pragma omp simd
    for (i64 k = 0; k < c; k++)
      out[k] = (in[k] - mean[k]) * scale[k] + shift[k];
  }
}

/* The same for x (n, c). work, channels: memory for 2 c numbers a part, and for 2 c. */
void KERNEL(batch_norm_columns_training)(const real *x, const real *w, const real *b, real *y,
                                         real *mean, real *inv_std, real *running_mean,
                                         real *running_var, double *work, real *channels, i64 n,
                                         i64 c, i64 parts, double momentum, double eps) {
  column_moments(x, work, n, c, parts);
  for (i64 k = 0; k < c; k++)
    learn(work[k], work[c + k], n, k, mean, inv_std, running_mean, running_var, momentum, eps);
  normalize_columns(x, w, b, y, mean, inv_std, channels, n, c);
}

/* By the running statistics; mean and inv_std are written too. channels: memory for 2 c numbers. */
void KERNEL(batch_norm)(const real *x, const real *w, const real *b, real *y, real *mean,
                        real *inv_std, const real *running_mean, const real *running_var,
                        real *channels, i64 n, i64 c, i64 s, double eps) {
  for (i64 k = 0; k < c; k++) {
    mean[k] = running_mean[k];
    inv_std[k] = (real)(1 / sqrt(running_var[k] + eps));
  }
  if (s == 1) {
    normalize_columns(x, w, b, y, mean, inv_std, channels, n, c);
    return;
  }
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 i = 0; i < n * c; i++) {
    i64 k = i % c;
    real scale = w ? inv_std[k] * w[k] : inv_std[k];
    normalize(x + i * s, y + i * s, mean[k], scale, b ? b[k] : 0, s);
  }
}

/* dx = scale (dy - centre - (x - mean) slope) */
INLINE void normalize_backward(const real *x, const real *dy, real *dx, real mean, real scale,
                               real centre, real slope, i64 n) {
#pragma omp simd
  for (i64 i = 0; i < n; i++) dx[i] = scale * (dy[i] - centre - (x[i] - mean) * slope);
}

/* dw, db and dx may be null. */
void KERNEL(batch_norm_backward)(const real *x, const real *dy, const real *w, real *dw, real *db,
                                 real *dx, const real *mean, const real *inv_std, i64 n, i64 c,
                                 i64 s, i64 training) {
#pragma omp parallel for if (n * c * s > PARALLEL_ABOVE)
  for (i64 k = 0; k < c; k++) {
    double total = 0, products = 0;
    if (training || dw || db)
      for (i64 i = k; i < n * c; i += c) {
        total += sum(dy + i * s, s);
        products += sum_of_products(x + i * s, mean[k], dy + i * s, s);
      }
    if (db) db[k] += total;
    if (dw) dw[k] += products * inv_std[k];
    if (!dx) continue;
    real scale = w ? inv_std[k] * w[k] : inv_std[k];
    real centre = (real)(total / (n * s));
    real slope = (real)(products * inv_std[k] * inv_std[k] / (n * s));
    for (i64 i = k; i < n * c; i += c)
      if (training)
        normalize_backward(x + i * s, dy + i * s, dx + i * s, mean[k], scale, centre, slope, s);
      else
        normalize(dy + i * s, dx + i * s, 0, scale, 0, s);
  }
}

/* The same for x (n, c). work, channels: memory for 2 c numbers a part, and for 3 c. */
void KERNEL(batch_norm_columns_backward)(const real *x, const real *dy, const real *w, real *dw,
                                         real *db, real *dx, const real *mean,
                                         const real *inv_std, double *work, real *channels, i64 n,
                                         i64 c, i64 parts, i64 training) {
  real *scale = channels, *centre = scale + c, *slope = centre + c;
  if (training || dw || db) {
    struct gradients p = {.x = x, .dy = dy, .mean = mean};
    column_sums(AS_IS, &p, work, n, c, parts);
    learn_columns(work, work + c, inv_std, dw, db, centre, slope, n, c);
  }
  if (!dx) return;
  for (i64 k = 0; k < c; k++) scale[k] = w ? inv_std[k] * w[k] : inv_std[k];
  if (training) {
    columns_backward(x, dy, dx, mean, scale, centre, slope, n, c);
    return;
  }
#pragma omp parallel for if (n * c > PARALLEL_ABOVE)
  for (i64 row = 0; row < n; row++)
#pragma omp simd
    for (i64 k = 0; k < c; k++) dx[row * c + k] = dy[row * c + k] * scale[k];
}

/* ---- local response norm

   The sizes of one image and the neighbours of a value: from `low` before to `high` after it,
   over channels if `deep`, over rows if `tall`, over columns `wide` apart if that is not 0. */
typedef struct {
  i64 c, h, w, low, high, deep, tall, wide;
} Region;

static Region mirrored(Region r) {
  return (Region){r.c, r.h, r.w, r.high, r.low, r.deep, r.tall, r.wide};
}

enum { SPAN = 256 }; /* neighbouring values that are computed together */

/* sums = Σ v, or Σ v², over the neighbours of n values of one row from channel k, (y, x) on */
INLINE void sum_neighbours(const real *v, real *sums, i64 k, i64 y, i64 x, i64 n, Region r,
                           int squared) {
  for (i64 o = 0; o < n; o++) sums[o] = 0;
  const i64 left = r.wide ? r.low : 0, right = r.wide ? r.high : 0;
  for (i64 kk = max_i64(0, k - r.deep * r.low); kk < min_i64(r.c, k + r.deep * r.high + 1); kk++)
    for (i64 yy = max_i64(0, y - r.tall * r.low); yy < min_i64(r.h, y + r.tall * r.high + 1); yy++)
      for (i64 step = -left; step <= right; step++) {
        i64 shift = step * r.wide, from = max_i64(0, -x - shift), to = min_i64(n, r.w - x - shift);
        const real *near = v + (kk * r.h + yy) * r.w + x + shift;
        for (i64 o = from; o < to; o++) sums[o] += squared ? near[o] * near[o] : near[o];
      }
}

/* v = v^-beta; square roots for the exponents of AlexNet and its kin */
INLINE void negative_power(real *v, double beta, i64 n) {
  if (beta == 0.75)
    for (i64 o = 0; o < n; o++) {
      real root = REAL_SQRT(v[o]);
      v[o] = 1 / (root * REAL_SQRT(root));
    }
  else if (beta == 0.5)
    for (i64 o = 0; o < n; o++) v[o] = 1 / REAL_SQRT(v[o]);
  else if (beta == 1)
    for (i64 o = 0; o < n; o++) v[o] = 1 / v[o];
  else
    for (i64 o = 0; o < n; o++) v[o] = REAL_POW(v[o], (real)-beta);
}

void KERNEL(local_response_norm)(const real *x, real *y, i64 n, i64 c, i64 h, i64 w, i64 low,
                                 i64 high, i64 deep, i64 tall, i64 wide, double alpha,
                                 double beta, double k) {
  Region r = {c, h, w, low, high, deep, tall, wide};
#pragma omp parallel for if (n * c * h * w > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * c * h; row++)
    for (i64 start = 0; start < w; start += SPAN) {
      const real *in = x + row * w + start, *image = x + row / (c * h) * c * h * w;
      real scale[SPAN], *out = y + row * w + start;
      i64 count = min_i64(SPAN, w - start);
      sum_neighbours(image, scale, row / h % c, row % h, start, count, r, 1);
      for (i64 o = 0; o < count; o++) scale[o] = (real)k + (real)alpha * scale[o];
      negative_power(scale, beta, count);
      for (i64 o = 0; o < count; o++) out[o] = in[o] * scale[o];
    }
}

/* With D = k + alpha Σ x²: first dx = dy D^-beta and work = dy x D^(-beta-1), then
   dx -= 2 alpha beta x Σ work over the windows that hold x. work is as large as x. */
void KERNEL(local_response_norm_backward)(const real *x, const real *dy, real *dx, real *work,
                                          i64 n, i64 c, i64 h, i64 w, i64 low, i64 high,
                                          i64 deep, i64 tall, i64 wide, double alpha, double beta,
                                          double k) {
  Region r = {c, h, w, low, high, deep, tall, wide};
  real factor = (real)(2 * alpha * beta);
#pragma omp parallel if (n * c * h * w > PARALLEL_ABOVE)
  {
#pragma omp for
    for (i64 row = 0; row < n * c * h; row++)
      for (i64 start = 0; start < w; start += SPAN) {
        i64 at = row * w + start, count = min_i64(SPAN, w - start);
        real scale[SPAN], power[SPAN];
        sum_neighbours(x + row / (c * h) * c * h * w, scale, row / h % c, row % h, start, count, r,
                       1);
        for (i64 o = 0; o < count; o++) scale[o] = power[o] = (real)k + (real)alpha * scale[o];
        negative_power(power, beta, count);
        for (i64 o = 0; o < count; o++) {
          dx[at + o] = dy[at + o] * power[o];
          work[at + o] = dx[at + o] * x[at + o] / scale[o];
        }
      }
#pragma omp for
    for (i64 row = 0; row < n * c * h; row++)
      for (i64 start = 0; start < w; start += SPAN) {
        i64 at = row * w + start, count = min_i64(SPAN, w - start);
        real sums[SPAN];
        sum_neighbours(work + row / (c * h) * c * h * w, sums, row / h % c, row % h, start, count,
                       mirrored(r), 0);
        for (i64 o = 0; o < count; o++) dx[at + o] -= factor * x[at + o] * sums[o];
      }
  }
}
