/* Convolution channel by channel: every channel of the source has `m` filters of its own.

   A channel is laid out with its zero padding as stride_h * stride_w phases: rows (and columns)
   that are congruent modulo the stride lie together, `pitch` numbers a row. Then every tap reads
   the channel at a fixed offset from the window, whatever the stride, and the whole convolution
   is a sum of shifted copies of one flat array. Columns between grid_w and pitch are not used. */

struct depthwise {
  i64 n, c, m, h, w;      /* source (n, c, h, w), weights (c * m, taps) */
  i64 taps, grid_h, grid_w;
  i64 pad_h, pad_w, stride_h, stride_w;
  i64 rows, pitch, plane; /* of a phase: rows, numbers a row, numbers in all with room to spare */
  i64 margin;             /* the largest offset of a tap within its phase */
  i64 threads, work;      /* work: numbers of scratch memory a thread */
};

/* A tap in the order of phases: its index in the weights, where it reads, within its phase. */
struct tap {
  i64 index, forward, backward;
};

enum { AT_ONCE = 4 };

/* to[t] += Σ weight[tap] from[t + offset] for `vectors` vectors of t */
INLINE void correlate_at(real *to, const i64 vectors, const real *from, const struct tap *taps,
                         i64 count, const int backward, const real *weight) {
  vec sums[AT_ONCE];
#pragma GCC unroll 4
  for (i64 l = 0; l < vectors; l++) sums[l] = load(to + l * LANES);
  for (i64 i = 0; i < count; i++) {
    const real *at = from + (backward ? taps[i].backward : taps[i].forward);
    vec w = broadcast(weight[taps[i].index]);
#pragma GCC unroll 4
    for (i64 l = 0; l < vectors; l++) sums[l] += w * load(at + l * LANES);
  }
#pragma GCC unroll 4
  for (i64 l = 0; l < vectors; l++) store(to + l * LANES, sums[l]);
}

/* to[t] += Σ weight[tap] from[t + offset], t < length, the offsets being `forward` or `backward` */
INLINE void correlate(real *to, i64 length, const real *from, const struct tap *taps, i64 count,
                      const int backward, const real *weight) {
  i64 t = 0;
  for (; t + (AT_ONCE - 1) * LANES < length; t += AT_ONCE * LANES)
    correlate_at(to + t, AT_ONCE, from + t, taps, count, backward, weight);
  for (; t < length; t += LANES)
    correlate_at(to + t, 1, from + t, taps, count, backward, weight);
}

/* Rows first to last - 1 of a phase are those of the image at first * stride + shift. */
INLINE i64 first_inside(i64 shift, i64 stride) { return shift < 0 ? pieces(-shift, stride) : 0; }
INLINE i64 last_inside(i64 shift, i64 stride, i64 size, i64 rows) {
  return shift < size ? min_i64(rows, (size - 1 - shift) / stride + 1) : 0;
}

/* The channel x (h, w) to its phases, or back when x_is_result. */
static void split_phases(const struct depthwise *s, real *x, real *phases, int x_is_result) {
  if (!x_is_result) memset(phases, 0, s->stride_h * s->stride_w * s->plane * sizeof(real));
  for (i64 phase = 0; phase < s->stride_h * s->stride_w; phase++, phases += s->plane) {
    i64 down = phase / s->stride_w - s->pad_h, right = phase % s->stride_w - s->pad_w;
    i64 left = first_inside(right, s->stride_w);
    i64 length = last_inside(right, s->stride_w, s->w, s->pitch) - left;
    for (i64 i = first_inside(down, s->stride_h);
         i < last_inside(down, s->stride_h, s->h, s->rows); i++) {
      real *row = x + (i * s->stride_h + down) * s->w + left * s->stride_w + right;
      real *inner = phases + i * s->pitch + left;
      if (!x_is_result) {
        copy_run(inner, 0, row, 0, length > 0, length, s->stride_w);
        continue;
      }
      for (i64 j = 0; j < length; j++) row[j * s->stride_w] = inner[j];
    }
  }
}

/* The windows' values dy (grid_h, grid_w) with `pitch` numbers a row, zeros in the rest. */
static void widen(const struct depthwise *s, const real *dy, real *wide) {
  memset(wide, 0, s->plane * sizeof(real));
  for (i64 i = 0; i < s->grid_h; i++)
    memcpy(wide + i * s->pitch, dy + i * s->grid_w, s->grid_w * sizeof(real));
}

/* y = w * x + b */
void KERNEL(depthwise)(const real *x, const real *w, const real *b, real *y, const i64 *shape,
                       const i64 *table, real *work) {
  const struct depthwise *s = (const struct depthwise *)shape;
  const struct tap *taps = (const struct tap *)table;
#pragma omp parallel for num_threads(s->threads)
  for (i64 plane = 0; plane < s->n * s->c; plane++) {
    real *phases = work + omp_get_thread_num() * s->work;
    real *wide = phases + s->stride_h * s->stride_w * s->plane;
    split_phases(s, (real *)x + plane * s->h * s->w, phases, 0);
    for (i64 r = plane % s->c * s->m, m = 0; m < s->m; m++, r++) {
      for (i64 t = 0; t < s->plane; t++) wide[t] = b ? b[r] : 0;
      correlate(wide, s->grid_h * s->pitch, phases, taps, s->taps, 0, w + r * s->taps);
      real *to = y + (plane * s->m + m) * s->grid_h * s->grid_w;
      for (i64 i = 0; i < s->grid_h; i++)
        memcpy(to + i * s->grid_w, wide + i * s->pitch, s->grid_w * sizeof(real));
    }
  }
}

/* dx: in each phase the sum of dy shifted by the taps that read there; firsts: the first tap of
   each phase, and the number of taps */
void KERNEL(depthwise_input)(const real *dy, const real *w, real *dx, const i64 *shape,
                             const i64 *table, const i64 *firsts, real *work) {
  const struct depthwise *s = (const struct depthwise *)shape;
  const struct tap *taps = (const struct tap *)table;
  i64 count = s->stride_h * s->stride_w;
#pragma omp parallel for num_threads(s->threads)
  for (i64 plane = 0; plane < s->n * s->c; plane++) {
    real *phases = work + omp_get_thread_num() * s->work, *wide = phases + count * s->plane;
    memset(phases, 0, count * s->plane * sizeof(real));
    memset(wide, 0, s->margin * sizeof(real));
    for (i64 r = plane % s->c * s->m, m = 0; m < s->m; m++, r++) {
      widen(s, dy + (plane * s->m + m) * s->grid_h * s->grid_w, wide + s->margin);
      for (i64 f = 0; f < count; f++)
        correlate(phases + f * s->plane, s->rows * s->pitch, wide + s->margin, taps + firsts[f],
                  firsts[f + 1] - firsts[f], 1, w + r * s->taps);
    }
    memset(dx + plane * s->h * s->w, 0, s->h * s->w * sizeof(real));
    split_phases(s, dx + plane * s->h * s->w, phases, 1);
  }
}

/* Σ a[t] b[t], in a fixed order; length is rounded up to whole vectors */
static real dot(const real *a, const real *b, i64 length) {
  vec sums[AT_ONCE] = {{0}};
  for (i64 t = 0; t < length; t += AT_ONCE * LANES)
#pragma GCC unroll 4
    for (i64 l = 0; l < AT_ONCE; l++) sums[l] += load(a + t + l * LANES) * load(b + t + l * LANES);
  vec all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  real sum = 0;
  for (i64 l = 0; l < LANES; l++) sum += all[l];
  return sum;
}

/* dw += Σ dy x */
void KERNEL(depthwise_weight)(const real *x, const real *dy, real *dw, const i64 *shape,
                              const i64 *table, real *work) {
  const struct depthwise *s = (const struct depthwise *)shape;
  const struct tap *taps = (const struct tap *)table;
#pragma omp parallel for num_threads(s->threads)
  for (i64 c = 0; c < s->c; c++)
    for (i64 plane = c; plane < s->n * s->c; plane += s->c) {
      real *phases = work + omp_get_thread_num() * s->work;
      real *wide = phases + s->stride_h * s->stride_w * s->plane;
      split_phases(s, (real *)x + plane * s->h * s->w, phases, 0);
      for (i64 m = 0; m < s->m; m++) {
        widen(s, dy + (plane * s->m + m) * s->grid_h * s->grid_w, wide);
        real *to = dw + (c * s->m + m) * s->taps;
        for (i64 i = 0; i < s->taps; i++)
          to[taps[i].index] += dot(wide, phases + taps[i].forward, s->grid_h * s->pitch);
      }
    }
}
