/* Convolution channel by channel with channels lying together: vectors of channels, for some
   windows side by side. Taps outside of the image are left out, so that nothing is copied. */

enum {
  WINDOWS_AT_ONCE = 4,
  WINDOWS_IN_RUN = 7, /* windows at once where taps are few: their sums and a row of taps fill the registers */
  WINDOWS_IN_PART = 4,
  MOST_TAPS = 5
};

/* Of `count` taps, `step` apart from `place` on, those inside of an image of a size. */
struct taps {
  i64 from, till;
};

INLINE struct taps taps_inside(i64 place, i64 step, i64 count, i64 size) {
  i64 from = place < 0 ? min_i64(pieces(-place, step), count) : 0;
  i64 till = place < size ? min_i64((size - 1 - place) / step + 1, count) : 0;
  return (struct taps){from, max_i64(from, till)};
}

/* Results of `count` windows side by side for the channels from c on, as many as a vector holds.
   x: what tap (0, 0) of the first window reads, which may lie outside; w (p, q, c). */
INLINE void depthwise_vector(const int count, const struct conv_last *s, const real *x,
                             const real *w, struct taps down, struct taps across, i64 c, real *y,
                             const struct finish *finish) {
  i64 apart = s->stride_w * s->x_column;
  vec sum[WINDOWS_AT_ONCE];
  struct finish here = finish_at(finish, c, c);
#pragma GCC unroll 4
  for (int l = 0; l < count; l++) sum[l] = here.bias ? load(here.bias) : (vec){0};
  for (i64 p = down.from; p < down.till; p++) {
    const real *at = x + p * s->step_h * s->x_row + across.from * s->step_w * s->x_column + c;
    const real *weight = w + (p * s->q + across.from) * s->c + c;
    for (i64 q = across.from; q < across.till; q++) {
      vec v = load(weight);
#pragma GCC unroll 4
      for (int l = 0; l < count; l++) sum[l] += v * load(at + l * apart);
      at += s->step_w * s->x_column, weight += s->c;
    }
  }
#pragma GCC unroll 4
  for (int l = 0; l < count; l++) finish_vector(sum[l], l * s->c, LANES, y + c, &here);
}

/* The same for the vectors from `first` to `till`; the last may overlap the one before. */
INLINE void depthwise_windows(const int count, const struct conv_last *s, const real *x,
                              const real *w, struct taps down, struct taps across, i64 first,
                              i64 till, real *y, const struct finish *finish) {
  const struct taps all_down = {0, s->p}, all_across = {0, s->q};
  int whole = down.till - down.from == s->p && across.till - across.from == s->q;
  for (i64 i = first; i < till; i++) {
    i64 c = min_i64(i * LANES, s->c - LANES);
    if (whole && s->p == 3 && s->q == 3) /* the commonest: its loops are written out */
      depthwise_vector(count, s, x, w, (struct taps){0, 3}, (struct taps){0, 3}, c, y, finish);
    else if (whole)
      depthwise_vector(count, s, x, w, all_down, all_across, c, y, finish);
    else
      depthwise_vector(count, s, x, w, down, across, c, y, finish);
  }
}

/* Rows of 3 or 5 taps side by side, the commonest, and windows one or two pixels apart: what is
   read of a row is loaded once for all the windows that it lies in. inside: of the pixels that the
   windows read of a row, those in the image. */
INLINE void depthwise_run(const int count, const int taps, const int stride,
                          const struct conv_last *s, const real *x, const real *w,
                          struct taps down, struct taps inside, i64 c, real *y,
                          const struct finish *finish) {
  struct finish here = finish_at(finish, c, c);
  i64 far = s->n * s->x_image * (i64)sizeof(real) > FAR && c * sizeof(real) % 64 == 0;
  i64 ahead = far ? s->stride_h * s->x_row : 0; /* to what the next line reads, a cache line each */
  vec sum[WINDOWS_IN_RUN];
#pragma GCC unroll 8
  for (int j = 0; j < count; j++) sum[j] = here.bias ? load(here.bias) : (vec){0};
  for (i64 p = down.from; p < down.till; p++) {
    const real *at = x + p * s->step_h * s->x_row + c, *weight = w + p * taps * s->c + c;
    vec row[MOST_TAPS];
#pragma GCC unroll 5
    for (int q = 0; q < taps; q++) {
      row[q] = load(weight + q * s->c);
      OPAQUE_VECTOR(row[q]);
    }
#pragma GCC unroll 17
    for (int i = 0; i < (count - 1) * stride + taps; i++, at += s->x_column) {
      if (i < inside.from || i >= inside.till) continue;
      vec v = load(at);
      if (ahead && p == down.till - 1) __builtin_prefetch(at + ahead);
#pragma GCC unroll 8
      for (int j = 0; j < count; j++)
        if (i >= j * stride && i < j * stride + taps) MULTIPLY_ADD(sum[j], row[i - j * stride], v);
    }
  }
#pragma GCC unroll 8
  for (int j = 0; j < count; j++) finish_vector(sum[j], j * s->c, LANES, y + c, &here);
}

/* The same for the vectors from `first` to `till` of `count` windows. */
INLINE void depthwise_runs(const int taps, const int stride, i64 count, const struct conv_last *s,
                           const real *x, const real *w, struct taps down, struct taps inside,
                           i64 first, i64 till, real *y, const struct finish *finish) {
  const struct taps all = {0, (WINDOWS_IN_RUN - 1) * stride + taps};
  for (i64 i = first; i < till; i++) {
    i64 c = min_i64(i * LANES, s->c - LANES);
    if (count == WINDOWS_IN_RUN && inside.from == all.from && inside.till == all.till)
      depthwise_run(WINDOWS_IN_RUN, taps, stride, s, x, w, down, all, c, y, finish);
    else if (count == WINDOWS_IN_RUN)
      depthwise_run(WINDOWS_IN_RUN, taps, stride, s, x, w, down, inside, c, y, finish);
    else if (count == WINDOWS_IN_PART)
      depthwise_run(WINDOWS_IN_PART, taps, stride, s, x, w, down, inside, c, y, finish);
    else
      depthwise_run(1, taps, stride, s, x, w, down, inside, c, y, finish);
  }
}

/* Whether there are loops written out for these windows. */
INLINE int comes_in_runs(const struct conv_last *s) {
  return (s->q == 3 || s->q == 5) && (s->stride_w == 1 || s->stride_w == 2) && s->step_w == 1;
}

/* How many windows are computed at once where so many are left. */
INLINE i64 run_of(i64 left) {
  return left >= WINDOWS_IN_RUN ? WINDOWS_IN_RUN : left >= WINDOWS_IN_PART ? WINDOWS_IN_PART : 1;
}

/* One line of windows in runs. x, y: of the image; other in finish: likewise. */
static void depthwise_line_in_runs(const struct conv_last *s, const real *x, const real *w,
                                   i64 line, i64 first, i64 till, real *y,
                                   const struct finish *finish) {
  i64 top = line * s->stride_h - s->pad_h;
  struct taps down = taps_inside(top, s->step_h, s->p, s->h);
  for (i64 j = 0, count; j < s->grid_w; j += count) {
    count = run_of(s->grid_w - j);
    i64 left = j * s->stride_w - s->pad_w, pixel = (line * s->grid_w + j) * s->c;
    struct taps inside = taps_inside(left, 1, (count - 1) * s->stride_w + s->q, s->w);
    struct finish here = finish_at(finish, 0, pixel);
    const real *from = x + top * s->x_row + left * s->x_column;
#define CASE(taps, stride)                                                                   \
  case 2 * taps + stride:                                                                    \
    depthwise_runs(taps, stride, count, s, from, w, down, inside, first, till, y + pixel, &here); \
    break;
    switch (2 * s->q + s->stride_w) { CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) }
#undef CASE
  }
}

/* One line of windows. x, y: of the image; other in finish: likewise. */
static void depthwise_line(const struct conv_last *s, const real *x, const real *w, i64 line,
                           i64 first, i64 till, real *y, const struct finish *finish) {
  i64 top = line * s->stride_h - s->pad_h;
  struct taps down = taps_inside(top, s->step_h, s->p, s->h);
  for (i64 j = 0, count; j < s->grid_w; j += count) {
    i64 left = j * s->stride_w - s->pad_w, last = left + (WINDOWS_AT_ONCE - 1) * s->stride_w;
    i64 pixel = (line * s->grid_w + j) * s->c;
    struct taps across = taps_inside(left, s->step_w, s->q, s->w);
    struct taps at_last = taps_inside(last, s->step_w, s->q, s->w);
    struct finish here = finish_at(finish, 0, pixel);
    const real *from = x + top * s->x_row + left * s->x_column;
    int together = j + WINDOWS_AT_ONCE <= s->grid_w && across.from == 0 && at_last.till == s->q &&
                   at_last.from == 0;
    count = together ? WINDOWS_AT_ONCE : 1;
    if (together)
      depthwise_windows(WINDOWS_AT_ONCE, s, from, w, down, across, first, till, y + pixel, &here);
    else
      depthwise_windows(1, s, from, w, down, across, first, till, y + pixel, &here);
  }
}

/* y = clamp(w * x + b + other, low, high), w (p, q, c), as many results as channels; y and other
   are channels-last; at least LANES channels, cut into `panels` shares; no scratch memory */
void KERNEL(depthwise_last)(const real *x, const real *w, const real *b, const real *other,
                            real *y, const i64 *shape, const real *range, real *work) {
  (void)work;
  const struct conv_last *s = (const struct conv_last *)shape;
  struct finish finish = finish_of(b, other, range);
  i64 down = pieces(s->grid_h, s->lines), vectors = pieces(s->c, LANES);
  struct queues queues;
  fill_queues(&queues, s->threads, s->n * down * s->panels);
#pragma omp parallel num_threads(s->threads)
  for (i64 task, ended = 0; (task = next_task(&queues, &ended)) >= 0;) {
    i64 share = task % s->panels, strip = task / s->panels, image = strip / down;
    i64 line = strip % down * s->lines, till = min_i64(line + s->lines, s->grid_h);
    i64 start = image * s->grid_h * s->grid_w * s->c;
    struct finish here = finish_at(&finish, 0, start);
    i64 first = vectors * share / s->panels, last = vectors * (share + 1) / s->panels;
    for (; line < till; line++)
      if (comes_in_runs(s))
        depthwise_line_in_runs(s, x + image * s->x_image, w, line, first, last, y + start, &here);
      else
        depthwise_line(s, x + image * s->x_image, w, line, first, last, y + start, &here);
  }
}

/* to (taps, c) = w (c, taps); turned: the taps in reverse */
void KERNEL(depthwise_taps)(const real *w, real *to, i64 c, i64 taps, i64 turned) {
  for (i64 t = 0; t < taps; t++)
    for (i64 i = 0; i < c; i++) to[(turned ? taps - 1 - t : t) * c + i] = w[i * taps + t];
}
