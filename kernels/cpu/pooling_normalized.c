/* Batch normalisation, a ReLU and the greatest of each window in one pass over x (n, h, w, c), whose
   channels lie innermost in memory and fill whole vectors: what goes between is never in memory. */
#include "normalization.h"
#include "pooling.h"

struct windows_of_plane {
  i64 n, c, h, w, oh, ow, p, q, stride_h, stride_w, pad_h, pad_w;
};

/* The greatest normalised value of LANES channels over a window, and which x that is of. */
INLINE void norm_window(const real *x, real *y, real *seen, int *index, struct affine norm, Span rows,
                        Span columns, i64 w, i64 c, i64 k) {
  const vec mean = load(norm.mean + k);
  const int inside = rows.first < rows.end && columns.first < columns.end;
  const i64 first = inside ? rows.first * w + columns.first : -1;
  vec of = inside ? load(x + first * c) : (vec){0};
  vec best = inside ? normal(of - mean, norm.scale, norm.shift, k) : broadcast(-INFINITY);
  mask position = (mask){0} + (int)first;
  for (i64 i = rows.first; i < rows.end; i++)
    for (i64 j = columns.first; j < columns.end; j++) {
      const vec from = load(x + (i * w + j) * c);
      const vec v = normal(from - mean, norm.scale, norm.shift, k);
      /* the first of equals; NaN is the greatest */
      const mask kept = (mask)(v <= best) | (mask)(best != best);
      const mask here = (mask){0} + (int)(i * w + j);
      best = (vec)(((mask)best & kept) | ((mask)v & ~kept));
      of = (vec)(((mask)of & kept) | ((mask)from & ~kept));
      position = (position & kept) | (here & ~kept);
    }
  store(y, GREATER((vec){0}, best));
  store(seen, of);
  store_positions(index, position, LANES);
}

/* y (n, oh, ow, c) = the greatest of max((x - mean) scale + shift, 0) over windows, by the batch's
   statistics, as in norm_relu. seen, index: the x that it is of, and where in the plane; 0 and -1 for a
   window outside of it. sizes: a struct windows_of_plane.
   work, channels: memory for 2 c numbers a part, and for 2 c. */
void KERNEL(max_pool2d_normalized)(const real *x, real *y, real *seen, int *index, const real *w, const real *b,
                       real *mean, real *inv_std, real *running_mean, real *running_var,
                       const i64 *sizes, double *work, real *channels, i64 parts, double momentum,
                       double eps) {
  const struct windows_of_plane *s = (const void *)sizes;
  const i64 c = s->c, count = s->n * s->h * s->w;
  const struct affine norm = learned(x, w, b, mean, inv_std, running_mean, running_var, work,
                                     channels, count, c, parts, momentum, eps);
#pragma omp parallel for schedule(static) if (count * c > PARALLEL_ABOVE)
  for (i64 row = 0; row < s->n * s->oh; row++) {
    const real *image = x + row / s->oh * s->h * s->w * c;
    const Span rows = span(row % s->oh * s->stride_h - s->pad_h, s->p, 1, s->h);
    for (i64 ox = 0; ox < s->ow; ox++) {
      const Span columns = span(ox * s->stride_w - s->pad_w, s->q, 1, s->w);
      const i64 to = (row * s->ow + ox) * c;
      for (i64 k = 0; k < c; k += LANES)
        norm_window(image + k, y + to + k, seen + to + k, index + to + k, norm, rows, columns, s->w,
                    c, k);
    }
  }
}

/* Of the windows of a line those that hold place i: first, and end. */
INLINE Span windows_at(i64 i, i64 taps, i64 stride, i64 pad, i64 count) {
  const i64 before = i + pad - taps + 1; /* where the first may start */
  return (Span){before > 0 ? (before + stride - 1) / stride : 0,
                min_i64(count, (i + pad) / stride + 1), 1};
}

/* dw += Σ g x̂, db += Σ g, dx = w inv_std (g - (Σ g + x̂ Σ g x̂) / m), with g the sum of dy over the windows
   whose greatest each x was, where that was above 0, and m the values of a channel; dw, db, dx may be
   NULL. y, seen, index: what max_pool2d_normalized gave. passed_on: memory for as many numbers as y.
   work, channels: memory for 2 c numbers a part, and for 3 c. */
void KERNEL(max_pool2d_normalized_backward)(const real *x, const real *y, const real *seen, const int *index,
                                const real *dy, const real *w, real *dw, real *db, real *dx,
                                const real *mean, const real *inv_std, real *passed_on,
                                const i64 *sizes, double *work, real *channels, i64 parts) {
  const struct windows_of_plane *s = (const void *)sizes;
  const i64 c = s->c, count = s->n * s->h * s->w;
  real *scale = channels, *centre = scale + c, *slope = centre + c;
  struct gradients p = {.x = seen, .y = y, .dy = dy, .mean = mean, .g = passed_on};
  column_sums(BY_Y, &p, work, s->n * s->oh * s->ow, c, parts);
  learn_columns(work, work + c, inv_std, dw, db, centre, slope, count, c);
  if (!dx) return;
  for (i64 k = 0; k < c; k++) scale[k] = w ? inv_std[k] * w[k] : inv_std[k];
  const int far = goes_far(dx, count * c);
#pragma omp parallel if (count * c > PARALLEL_ABOVE)
  {
#pragma omp for schedule(static) nowait
    for (i64 row = 0; row < s->n * s->h; row++) {
      const i64 first = row / s->h * s->oh * s->ow * c, line = row % s->h * s->w;
      const Span rows = windows_at(row % s->h, s->p, s->stride_h, s->pad_h, s->oh);
      for (i64 j = 0; j < s->w; j++) {
        const Span columns = windows_at(j, s->q, s->stride_w, s->pad_w, s->ow);
        const mask here = (mask){0} + (int)(line + j);
        const i64 at = (row * s->w + j) * c;
        fetch_ahead(far, x + at, c, c);
        for (i64 k = 0; k < c; k += LANES) {
          vec g = {0};
          for (i64 oy = rows.first; oy < rows.end; oy++)
            for (i64 ox = columns.first; ox < columns.end; ox++) {
              const i64 from = first + (oy * s->ow + ox) * c + k;
              positions place;
              memcpy(&place, index + from, sizeof place);
              const mask mine = __builtin_convertvector(place, mask) == here;
              g += (vec)((mask)load(passed_on + from) & mine);
            }
          const vec apart = load(x + at + k) - load(mean + k);
          g = g - load(centre + k) - apart * load(slope + k);
          put(far, dx + at + k, load(scale + k) * g);
        }
      }
    }
    streamed();
  }
}
