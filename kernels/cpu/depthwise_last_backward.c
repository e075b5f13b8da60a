/* The gradients of depthwise convolution with channels lying together: vectors of channels, for
   some pixels side by side. Nothing is copied; what lies outside of image or grid is left out. */

enum {
  PIXELS_IN_RUN = 8,
  WINDOWS_IN_BLOCK = 16, /* what they read stays in the first cache for the vectors of a block */
  VECTORS_IN_BLOCK = 8,
  MOST_READ = 64, /* taps */
  LINES_TASKS = 8 /* of a thread at least */
};

/* A tap that reads dy for some pixels of a line, stride_w apart: for the first of them, which may
   not be there, at `from`; its weights; and for which of the pixels it reads. */
struct reader {
  i64 from, weight, first, till;
};

/* The taps that read for the `count` pixels of a line from column j on: their number. */
static i64 readers_of(const struct conv_last *s, i64 line, i64 j, i64 count,
                      struct reader *readers) {
  i64 found = 0;
  for (i64 p = 0; p < s->p; p++) {
    i64 row = line + s->pad_h - p * s->step_h;
    if (row < 0 || row % s->stride_h || row / s->stride_h >= s->grid_h) continue;
    for (i64 q = 0; q < s->q; q++) {
      i64 column = j + s->pad_w - q * s->step_w;
      if (column % s->stride_w) continue;
      column /= s->stride_w;
      struct reader r = {(row / s->stride_h * s->grid_w + column) * s->c, (p * s->q + q) * s->c,
                         max_i64(0, -column), min_i64(count, s->grid_w - column)};
      if (r.first < r.till) readers[found++] = r;
    }
  }
  return found;
}

/* dx of `count` pixels from number i on, for the vectors of all channels. dy: of the image; dx: of
   the first of the pixels, which are `apart`. whole: every tap reads for all of them. */
INLINE void pixels_of_readers(const int count, const int whole, const struct conv_last *s,
                              const struct reader *readers, i64 number, const real *dy,
                              const real *w, i64 i, real *dx, i64 apart) {
  for (i64 v = 0; v < s->c; v += LANES) {
    i64 c = min_i64(v, s->c - LANES); /* the last may overlap the one before */
    vec sum[PIXELS_IN_RUN] = {{0}};
    for (i64 t = 0; t < number; t++) {
      const struct reader *r = readers + t;
      if (!whole && (i < r->first || i >= r->till)) continue;
      vec weight = load(w + r->weight + c);
      const real *at = dy + r->from + i * s->c + c;
#pragma GCC unroll 8
      for (int l = 0; l < count; l++) MULTIPLY_ADD(sum[l], weight, load(at + l * s->c));
    }
#pragma GCC unroll 8
    for (int l = 0; l < count; l++) store(dx + l * apart + c, sum[l]);
  }
}

/* dx of a line: of its pixels that the same taps read, one kind after the other. */
static void line_of_dx(const struct conv_last *s, i64 line, const real *dy, const real *w,
                       real *dx) {
  for (i64 j = 0; j < min_i64(s->stride_w, s->w); j++) {
    i64 count = pieces(s->w - j, s->stride_w), apart = s->stride_w * s->c, first = 0, till = count;
    struct reader readers[MOST_READ];
    i64 number = readers_of(s, line, j, count, readers);
    for (i64 t = 0; t < number; t++) {
      first = max_i64(first, readers[t].first);
      till = min_i64(till, readers[t].till);
    }
    real *to = dx + (line * s->w + j) * s->c;
    for (i64 i = 0, step; i < count; i += step) {
      int whole = i >= first && i < till;
      step = whole && i + PIXELS_IN_RUN <= till ? PIXELS_IN_RUN : 1;
      if (step > 1)
        pixels_of_readers(PIXELS_IN_RUN, 1, s, readers, number, dy, w, i, to + i * apart, apart);
      else
        pixels_of_readers(1, 0, s, readers, number, dy, w, i, to + i * apart, apart);
    }
  }
}

/* dx (n, h, w, c) of dy (n, grid_h, grid_w, c); w (p, q, c), up to MOST_READ taps; at least LANES
   channels; a task is some lines of dx */
void KERNEL(depthwise_last_input)(const real *dy, const real *w, real *dx, const i64 *shape) {
  const struct conv_last *s = (const struct conv_last *)shape;
  i64 lines = min_i64(s->h, max_i64(1, s->n * s->h / (LINES_TASKS * s->threads)));
  i64 down = pieces(s->h, lines);
  struct queues queues;
  fill_queues(&queues, s->threads, s->n * down);
#pragma omp parallel num_threads(s->threads)
  for (i64 task, ended = 0; (task = next_task(&queues, &ended)) >= 0;) {
    i64 image = task / down, first = task % down * lines;
    for (i64 line = first; line < min_i64(first + lines, s->h); line++)
      line_of_dx(s, line, dy + image * s->grid_h * s->grid_w * s->c, w,
                 dx + image * s->h * s->w * s->c);
  }
}

/* to[p][q] += Σ of dy and what tap (p, q) reads, for `count` windows and a vector of channels. */
INLINE void sums_of_taps(const int rows, const int taps, i64 count, const struct conv_last *s,
                         const real *x, const real *dy, real *to, i64 to_row, i64 to_tap) {
  i64 row = s->step_h * s->x_row, column = s->step_w * s->x_column;
  i64 next = s->stride_w * s->x_column;
  vec sum[3][5];
#pragma GCC unroll 3
  for (int p = 0; p < rows; p++)
#pragma GCC unroll 5
    for (int q = 0; q < taps; q++) sum[p][q] = load(to + p * to_row + q * to_tap);
  for (i64 j = 0; j < count; j++, x += next, dy += s->c) {
    vec by = load(dy);
#pragma GCC unroll 3
    for (int p = 0; p < rows; p++)
#pragma GCC unroll 5
      for (int q = 0; q < taps; q++) MULTIPLY_ADD(sum[p][q], by, load(x + p * row + q * column));
  }
#pragma GCC unroll 3
  for (int p = 0; p < rows; p++)
#pragma GCC unroll 5
    for (int q = 0; q < taps; q++) store(to + p * to_row + q * to_tap, sum[p][q]);
}

/* The same for windows from j to `till` of a line, which all taps inside of `down` read. x: what
   tap (0, 0) of the line's first window reads; dy: of the line; both for the vector's channels. */
static void sums_of_windows(const struct conv_last *s, const real *x, const real *dy,
                            struct taps down, i64 j, i64 till, real *to, i64 apart) {
  i64 row = s->step_h * s->x_row, column = s->step_w * s->x_column, count = till - j;
  x += j * s->stride_w * s->x_column, dy += j * s->c;
  if (s->q == 3 && s->p == 3 && down.till - down.from == 3) {
    sums_of_taps(3, 3, count, s, x, dy, to, 3 * apart, apart);
    return;
  }
  for (i64 p = down.from; p < down.till; p++) {
    real *at = to + p * s->q * apart;
    if (s->q == 3)
      sums_of_taps(1, 3, count, s, x + p * row, dy, at, 0, apart);
    else if (s->q == 5)
      sums_of_taps(1, 5, count, s, x + p * row, dy, at, 0, apart);
    else
      for (i64 q = 0; q < s->q; q++)
        sums_of_taps(1, 1, count, s, x + p * row + q * column, dy, at + q * apart, 0, 0);
  }
}

/* to (taps, vectors) += the sums of a line of windows, from j to `till`, for the vectors from
   `first` to `last`. inside: the windows whose taps all lie within the line of the image. */
static void sums_of_line(const struct conv_last *s, const real *x, const real *dy,
                         struct taps down, struct taps inside, i64 j, i64 till, i64 first, i64 last,
                         real *to) {
  i64 vectors = pieces(s->c, LANES), apart = vectors * LANES;
  for (i64 v = first; v < last; v++) {
    i64 c = min_i64(v * LANES, s->c - LANES); /* the last may overlap the one before */
    i64 from = min_i64(max_i64(j, inside.from), till);
    i64 end = max_i64(from, min_i64(till, inside.till));
    for (i64 i = j; i < till; i++) {
      if (i == from && from < end) {
        sums_of_windows(s, x + c, dy + c, down, from, end, to + v * LANES, apart);
        i = end - 1;
        continue;
      }
      i64 left = i * s->stride_w - s->pad_w;
      struct taps across = taps_inside(left, s->step_w, s->q, s->w);
      for (i64 p = down.from; p < down.till; p++)
        for (i64 q = across.from; q < across.till; q++)
          sums_of_taps(1, 1, 1, s,
                       x + c + i * s->stride_w * s->x_column + p * s->step_h * s->x_row +
                           q * s->step_w * s->x_column,
                       dy + c + i * s->c, to + (p * s->q + q) * apart + v * LANES, 0, 0);
    }
  }
}

/* The sums of all lines of windows from `first` to `last`, counted through the images. */
static void sums_of_chunk(const struct conv_last *s, const real *x, const real *dy, i64 first,
                          i64 last, real *to) {
  i64 vectors = pieces(s->c, LANES), room = s->w + s->pad_w - (s->q - 1) * s->step_w;
  struct taps inside = {pieces(s->pad_w, s->stride_w), room > 0 ? pieces(room, s->stride_w) : 0};
  for (i64 i = first; i < last; i++) {
    i64 image = i / s->grid_h, line = i % s->grid_h, top = line * s->stride_h - s->pad_h;
    struct taps down = taps_inside(top, s->step_h, s->p, s->h);
    const real *from = x + image * s->x_image + top * s->x_row - s->pad_w * s->x_column;
    for (i64 v = 0; v < vectors; v += VECTORS_IN_BLOCK)
      for (i64 j = 0; j < s->grid_w; j += WINDOWS_IN_BLOCK)
        sums_of_line(s, from, dy + i * s->grid_w * s->c, down, inside, j,
                     min_i64(j + WINDOWS_IN_BLOCK, s->grid_w), v,
                     min_i64(v + VECTORS_IN_BLOCK, vectors), to);
  }
}

/* dw (c, taps) += Σ dy x of channels-last images; at least LANES channels. The lines of windows
   are cut into chunks, whose number does not depend on that of the threads, with their own sums.
   work: for each chunk the taps by the channels, in whole vectors. */
void KERNEL(depthwise_last_weight)(const real *x, const real *dy, real *dw, const i64 *shape,
                                   i64 chunks, real *work) {
  const struct conv_last *s = (const struct conv_last *)shape;
  i64 vectors = pieces(s->c, LANES), taps = s->p * s->q, size = taps * vectors * LANES;
  i64 lines = s->n * s->grid_h;
  struct queues queues;
  fill_queues(&queues, s->threads, chunks);
#pragma omp parallel num_threads(s->threads)
  {
    for (i64 task, ended = 0; (task = next_task(&queues, &ended)) >= 0;) {
      real *to = work + task * size;
      memset(to, 0, size * sizeof(real));
      sums_of_chunk(s, x, dy, lines * task / chunks, lines * (task + 1) / chunks, to);
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (i64 v = 0; v < vectors; v++) {
      i64 c = min_i64(v * LANES, s->c - LANES);
      for (i64 t = 0; t < taps; t++)
        for (i64 l = v * LANES - c; l < LANES; l++) { /* of an overlapping vector what is new */
          real sum = 0;
          for (i64 k = 0; k < chunks; k++) sum += work[k * size + (t * vectors + v) * LANES + l];
          dw[(c + l) * taps + t] += sum;
        }
    }
  }
}
