/* Pooling of channels-last images: x is (n, h, w, c), y (n, oh, ow, c). A vector holds neighbouring
   channels of one position, and stays in a register while the positions of a window pass. */
#include "columns.h"
#include "pooling.h"

/* The first n <= LANES numbers of a vector; a constant n makes it one instruction. */
INLINE vec load_part(const real *p, i64 n) {
  if (n == LANES) return load(p);
  vec v = {0};
  for (i64 i = 0; i < n; i++) v[i] = p[i];
  return v;
}

INLINE void store_part(real *p, vec v, i64 n) {
  if (n == LANES)
    store(p, v);
  else
    for (i64 i = 0; i < n; i++) p[i] = v[i];
}

/* For each vector of channels (k the first, width how many): the last overlaps the one before,
   unless there is only one. */
#define EACH_VECTOR(...)                                  \
  for (i64 at = 0; at < c; at += LANES)                   \
    if (c >= LANES) {                                     \
      const i64 k = min_i64(at, c - LANES), width = LANES; \
      __VA_ARGS__;                                        \
    } else {                                              \
      const i64 k = 0, width = c;                         \
      __VA_ARGS__;                                        \
    }

/* The greatest of `width` channels over a window; x begins at these channels; index may be NULL. */
INLINE void max_window(const real *x, real *y, int *index, Span rows, Span columns, i64 w, i64 c,
                       i64 width) {
  const int inside = rows.first < rows.end && columns.first < columns.end;
  const i64 first = inside ? rows.first * w + columns.first : -1;
  vec best = inside ? load_part(x + first * c, width) : broadcast(-INFINITY);
  mask position = (mask){0} + (int)first;
  for (i64 i = rows.first; i < rows.end; i += rows.step)
    for (i64 j = columns.first; j < columns.end; j += columns.step) {
      const vec v = load_part(x + (i * w + j) * c, width);
      /* the first of equals; NaN is the greatest */
      const mask kept = (mask)(v <= best) | (mask)(best != best);
      const mask here = (mask){0} + (int)(i * w + j);
      best = (vec)(((mask)best & kept) | ((mask)v & ~kept));
      position = (position & kept) | (here & ~kept);
    }
  store_part(y, best, width);
  if (index) store_positions(index, position, width);
}

/* index may be NULL */
void KERNEL(max_pool2d_channels)(const real *x, real *y, int *index, i64 n, i64 c, i64 h, i64 w,
                                 i64 oh, i64 ow, i64 p, i64 q, i64 stride_h, i64 stride_w,
                                 i64 pad_h, i64 pad_w, i64 dilation_h, i64 dilation_w) {
#pragma omp parallel for if (n * c * h * w > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * oh; row++) {
    const real *image = x + row / oh * h * w * c;
    const Span rows = span(row % oh * stride_h - pad_h, p, dilation_h, h);
    for (i64 ox = 0; ox < ow; ox++) {
      const Span columns = span(ox * stride_w - pad_w, q, dilation_w, w);
      const i64 to = (row * ow + ox) * c;
      if (index) {
        EACH_VECTOR(max_window(image + k, y + to + k, index + to + k, rows, columns, w, c, width))
      } else {
        EACH_VECTOR(max_window(image + k, y + to + k, NULL, rows, columns, w, c, width))
      }
    }
  }
}

void KERNEL(max_pool2d_channels_backward)(const real *dy, const int *index, real *dx, i64 n, i64 c,
                                          i64 inputs, i64 outputs) {
  const i64 block = n % omp_get_max_threads() ? 32 : c; /* channels that one thread scatters */
#pragma omp parallel for collapse(2) if (n * c * inputs > PARALLEL_ABOVE)
  for (i64 image = 0; image < n; image++)
    for (i64 k = 0; k < c; k += block) {
      const i64 count = min_i64(block, c - k);
      real *to = dx + image * inputs * c + k;
      for (i64 i = 0; i < inputs; i++) memset(to + i * c, 0, count * sizeof(real));
      for (i64 o = 0; o < outputs; o++) {
        const i64 from = (image * outputs + o) * c + k;
        for (i64 j = 0; j < count; j++)
          if (index[from + j] >= 0) to[index[from + j] * c + j] += dy[from + j];
      }
    }
}

/* y = scale Σ x over a window */
INLINE void sum_window(const real *x, real *y, Span rows, Span columns, i64 w, i64 c, real scale,
                       i64 width) {
  vec sum = {0};
  for (i64 i = rows.first; i < rows.end; i++)
    for (i64 j = columns.first; j < columns.end; j++) sum += load_part(x + (i * w + j) * c, width);
  store_part(y, sum * scale, width);
}

void KERNEL(avg_pool2d_channels)(const real *x, real *y, i64 n, i64 c, i64 h, i64 w, i64 oh, i64 ow,
                                 i64 p, i64 q, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                                 i64 count_padding) {
#pragma omp parallel for if (n * c * h * w > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * oh; row++) {
    const real *image = x + row / oh * h * w * c;
    const i64 top = row % oh * stride_h - pad_h;
    const Span rows = span(top, p, 1, h);
    for (i64 ox = 0; ox < ow; ox++) {
      const i64 left = ox * stride_w - pad_w;
      const Span columns = span(left, q, 1, w);
      const real scale = (real)1 / (counted(top, p, h, pad_h, count_padding)
                                    * counted(left, q, w, pad_w, count_padding));
      real *to = y + (row * ow + ox) * c;
      EACH_VECTOR(sum_window(image + k, to + k, rows, columns, w, c, scale, width))
    }
  }
}

void KERNEL(adaptive_avg_pool2d_channels)(const real *x, real *y, i64 n, i64 c, i64 h, i64 w,
                                          i64 oh, i64 ow) {
#pragma omp parallel for collapse(2) if (n * c * h * w > PARALLEL_ABOVE)
  for (i64 out = 0; out < n * oh * ow; out++)
    for (i64 k = 0; k < c; k += COLUMN_BLOCK) {
      const i64 oy = out / ow % oh, ox = out % ow, count = min_i64(COLUMN_BLOCK, c - k);
      const i64 top = window_start(oy, h, oh), bottom = window_end(oy, h, oh);
      const i64 left = window_start(ox, w, ow), right = window_end(ox, w, ow);
      const real *image = x + out / (oh * ow) * h * w * c + k;
      double total[COLUMN_BLOCK] = {0};
      if (right - left == w) /* whole rows lie one after another */
        add_rows(image + top * w * c, total, (bottom - top) * w, c, count, 0);
      else
        for (i64 i = top; i < bottom; i++)
          add_rows(image + (i * w + left) * c, total, right - left, c, count, 0);
      for (i64 j = 0; j < count; j++)
        y[out * c + k + j] = (real)(total[j] / ((bottom - top) * (right - left)));
    }
}

/* dx = Σ dy down across over the windows that hold a position */
INLINE void gather_windows(const real *dy, real *dx, Span rows, Span columns, const real *down,
                           const real *across, i64 ow, i64 c, i64 width) {
  vec sum = {0};
  for (i64 i = rows.first; i < rows.end; i++)
    for (i64 j = columns.first; j < columns.end; j++)
      sum += load_part(dy + (i * ow + j) * c, width) * (down[i] * across[j]);
  store_part(dx, sum, width);
}

/* Row y lies in the windows from rows[2 y] up to rows[2 y + 1], of which row i gets the share
   down[i] of dy; columns alike. */
void KERNEL(mean_windows_backward)(const real *dy, real *dx, const i64 *rows, const i64 *columns,
                                   const real *down, const real *across, i64 n, i64 c, i64 h, i64 w,
                                   i64 oh, i64 ow) {
#pragma omp parallel for if (n * c * h * w > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * h; row++) {
    const real *image = dy + row / h * oh * ow * c;
    const Span tall = {rows[row % h * 2], rows[row % h * 2 + 1], 1};
    for (i64 x = 0; x < w; x++) {
      const Span wide = {columns[2 * x], columns[2 * x + 1], 1};
      real *to = dx + (row * w + x) * c;
      EACH_VECTOR(gather_windows(image + k, to + k, tall, wide, down, across, ow, c, width))
    }
  }
}
