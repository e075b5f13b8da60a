/* Pooling over windows of the plane; x is (planes, h, w), y (planes, oh, ow).

   A run of outputs of one row is computed together: for each position in the window one pass over
   the run, so that the compiler makes vectors of neighbouring outputs. */
#include "sum.h"

enum { RUN = 64 }; /* outputs at a time: they stay in the first cache */

/* The outputs [*from, *to) of a run whose input at start + o stride lies inside of [0, size). */
INLINE void clip(i64 start, i64 stride, i64 size, i64 *from, i64 *to) {
  while (*from < *to && start + *from * stride < 0) ++*from;
  while (*to > *from && start + (*to - 1) * stride >= size) --*to;
}

INLINE void take_greater(const real *x, int at, i64 stride, real *best, int *index, i64 n) {
  for (i64 o = 0; o < n; o++) {
    real v = x[o * stride];
    /* the first of equals; NaN is the greatest; index is negative before the first value */
    int better = (index[o] < 0) | (!(v <= best[o]) & (best[o] == best[o]));
    best[o] = better ? v : best[o];
    index[o] = better ? at + (int)(o * stride) : index[o];
  }
}

/* The same without the index. */
INLINE void take_greater_value(const real *x, i64 stride, real *best, i64 n) {
  for (i64 o = 0; o < n; o++) {
    real v = x[o * stride];
    best[o] = (v <= best[o]) | (best[o] != best[o]) ? best[o] : v;
  }
}

/* The greatest of each window of one run; x is the plane, (top, left) where the run's first window
   starts; index may be NULL. */
INLINE void max_run(const real *x, real *y, int *index, i64 h, i64 w, i64 top, i64 left, i64 n,
                    i64 p, i64 q, i64 stride, i64 dilation_h, i64 dilation_w) {
  for (i64 o = 0; o < n; o++) y[o] = -INFINITY;
  if (index) memset(index, -1, n * sizeof(int));
  for (i64 i = 0; i < p; i++) {
    i64 row = top + i * dilation_h;
    if (row < 0 || row >= h) continue;
    for (i64 j = 0; j < q; j++) {
      i64 column = left + j * dilation_w, from = 0, to = n;
      clip(column, stride, w, &from, &to);
      i64 at = row * w + column + from * stride;
      if (to <= from) continue;
      if (index)
        take_greater(x + at, (int)at, stride, y + from, index + from, to - from);
      else
        take_greater_value(x + at, stride, y + from, to - from);
    }
  }
}

/* index may be NULL */
void KERNEL(max_pool2d)(const real *x, real *y, int *index, i64 planes, i64 h, i64 w, i64 oh,
                        i64 ow, i64 p, i64 q, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                        i64 dilation_h, i64 dilation_w) {
#pragma omp parallel for collapse(2) if (planes * h * w > PARALLEL_ABOVE)
  for (i64 plane = 0; plane < planes; plane++)
    for (i64 oy = 0; oy < oh; oy++)
      for (i64 ox = 0; ox < ow; ox += RUN) {
        const real *from = x + plane * h * w;
        i64 out = (plane * oh + oy) * ow + ox, n = min_i64(RUN, ow - ox);
        i64 top = oy * stride_h - pad_h, left = ox * stride_w - pad_w;
        int *at = index ? index + out : NULL;
        if (stride_w == 1) /* a constant lets the compiler load vectors */
          max_run(from, y + out, at, h, w, top, left, n, p, q, 1, dilation_h, dilation_w);
        else if (stride_w == 2)
          max_run(from, y + out, at, h, w, top, left, n, p, q, 2, dilation_h, dilation_w);
        else
          max_run(from, y + out, at, h, w, top, left, n, p, q, stride_w, dilation_h, dilation_w);
      }
}

void KERNEL(max_pool2d_backward)(const real *dy, const int *index, real *dx, i64 planes, i64 inputs,
                                 i64 outputs) {
#pragma omp parallel for if (planes * inputs > PARALLEL_ABOVE)
  for (i64 plane = 0; plane < planes; plane++) {
    const real *from = dy + plane * outputs;
    const int *at = index + plane * outputs;
    real *to = dx + plane * inputs;
    memset(to, 0, inputs * sizeof(real));
    for (i64 o = 0; o < outputs; o++)
      if (at[o] >= 0) to[at[o]] += from[o];
  }
}

/* The number of values along one axis that the window at `start` counts. */
INLINE i64 counted(i64 start, i64 window, i64 size, i64 pad, i64 count_padding) {
  i64 end = min_i64(start + window, size + pad);
  return count_padding ? end - start : min_i64(end, size) - max_i64(start, 0);
}

/* sums += the values of each window of one run */
INLINE void add_windows(const real *x, real *sums, i64 h, i64 w, i64 top, i64 left, i64 n, i64 p,
                        i64 q, i64 stride) {
  for (i64 row = max_i64(top, 0); row < min_i64(top + p, h); row++)
    for (i64 j = 0; j < q; j++) {
      i64 column = left + j, from = 0, to = n;
      clip(column, stride, w, &from, &to);
      const real *values = x + row * w + column;
      for (i64 o = from; o < to; o++) sums[o] += values[o * stride];
    }
}

void KERNEL(avg_pool2d)(const real *x, real *y, i64 planes, i64 h, i64 w, i64 oh, i64 ow, i64 p,
                        i64 q, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                        i64 count_padding) {
#pragma omp parallel for collapse(2) if (planes * h * w > PARALLEL_ABOVE)
  for (i64 plane = 0; plane < planes; plane++)
    for (i64 oy = 0; oy < oh; oy++)
      for (i64 ox = 0; ox < ow; ox += RUN) {
        const real *from = x + plane * h * w;
        real *to = y + (plane * oh + oy) * ow + ox, sums[RUN] = {0};
        i64 n = min_i64(RUN, ow - ox), top = oy * stride_h - pad_h, left = ox * stride_w - pad_w;
        if (stride_w == 1)
          add_windows(from, sums, h, w, top, left, n, p, q, 1);
        else if (stride_w == 2)
          add_windows(from, sums, h, w, top, left, n, p, q, 2);
        else
          add_windows(from, sums, h, w, top, left, n, p, q, stride_w);
        i64 rows = counted(top, p, h, pad_h, count_padding);
        for (i64 o = 0; o < n; o++)
          to[o] = sums[o] / (rows * counted(left + o * stride_w, q, w, pad_w, count_padding));
      }
}

/* dx += the share of each output of one run, at all positions of its window */
INLINE void spread_windows(const real *share, real *dx, i64 h, i64 w, i64 top, i64 left, i64 n,
                           i64 p, i64 q, i64 stride) {
  for (i64 row = max_i64(top, 0); row < min_i64(top + p, h); row++)
    for (i64 j = 0; j < q; j++) {
      i64 column = left + j, from = 0, to = n;
      clip(column, stride, w, &from, &to);
      real *values = dx + row * w + column;
      for (i64 o = from; o < to; o++) values[o * stride] += share[o];
    }
}

void KERNEL(avg_pool2d_backward)(const real *dy, real *dx, i64 planes, i64 h, i64 w, i64 oh, i64 ow,
                                 i64 p, i64 q, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                                 i64 count_padding) {
#pragma omp parallel for if (planes * h * w > PARALLEL_ABOVE)
  for (i64 plane = 0; plane < planes; plane++) {
    real *to = dx + plane * h * w;
    memset(to, 0, h * w * sizeof(real));
    for (i64 oy = 0; oy < oh; oy++)
      for (i64 ox = 0; ox < ow; ox += RUN) {
        const real *from = dy + (plane * oh + oy) * ow + ox;
        i64 n = min_i64(RUN, ow - ox), top = oy * stride_h - pad_h, left = ox * stride_w - pad_w;
        i64 rows = counted(top, p, h, pad_h, count_padding);
        real share[RUN];
        for (i64 o = 0; o < n; o++)
          share[o] = from[o] / (rows * counted(left + o * stride_w, q, w, pad_w, count_padding));
        if (stride_w == 1)
          spread_windows(share, to, h, w, top, left, n, p, q, 1);
        else
          spread_windows(share, to, h, w, top, left, n, p, q, stride_w);
      }
  }
}

/* Window i of `count` over `size` positions is [window_start(i), window_end(i)). */
INLINE i64 window_start(i64 i, i64 size, i64 count) { return i * size / count; }
INLINE i64 window_end(i64 i, i64 size, i64 count) { return ((i + 1) * size + count - 1) / count; }

void KERNEL(adaptive_avg_pool2d)(const real *x, real *y, i64 planes, i64 h, i64 w, i64 oh, i64 ow) {
#pragma omp parallel for if (planes * h * w > PARALLEL_ABOVE)
  for (i64 plane = 0; plane < planes; plane++) {
    if (oh * ow == 1) { /* the usual case needs none of the divisions below */
      y[plane] = (real)(sum(x + plane * h * w, h * w) / (h * w));
      continue;
    }
    for (i64 o = 0; o < oh * ow; o++) {
      i64 top = window_start(o / ow, h, oh), bottom = window_end(o / ow, h, oh);
      i64 left = window_start(o % ow, w, ow), right = window_end(o % ow, w, ow);
      const real *from = x + (plane * h + top) * w + left;
      i64 rows = bottom - top, columns = right - left;
      double total = 0;
      for (i64 i = 0; i < rows; i++) total += sum(from + i * w, columns);
      y[plane * oh * ow + o] = (real)(total / (rows * columns));
    }
  }
}

void KERNEL(adaptive_avg_pool2d_backward)(const real *dy, real *dx, i64 planes, i64 h, i64 w,
                                          i64 oh, i64 ow) {
#pragma omp parallel for if (planes * h * w > PARALLEL_ABOVE)
  for (i64 plane = 0; plane < planes; plane++) {
    if (oh * ow == 1) {
      real share = dy[plane] / (h * w);
      for (i64 i = 0; i < h * w; i++) dx[plane * h * w + i] = share;
      continue;
    }
    memset(dx + plane * h * w, 0, h * w * sizeof(real));
    for (i64 o = 0; o < oh * ow; o++) {
      i64 top = window_start(o / ow, h, oh), bottom = window_end(o / ow, h, oh);
      i64 left = window_start(o % ow, w, ow), right = window_end(o % ow, w, ow);
      real share = dy[plane * oh * ow + o] / ((bottom - top) * (right - left));
      for (i64 i = top; i < bottom; i++)
        for (i64 j = left; j < right; j++) dx[(plane * h + i) * w + j] += share;
    }
  }
}
