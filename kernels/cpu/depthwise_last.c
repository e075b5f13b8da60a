/* Convolution channel by channel with channels lying together: vectors of channels. */

enum { WINDOWS_AT_ONCE = 4 };

/* Results of `count` windows side by side, for the vector of channels from c on. */
INLINE void depthwise_windows(const int count, const struct conv_last *s, const struct strip *t,
                              const real *x, const real *w, i64 c, real *y,
                              const struct finish *finish) {
  vec sum[WINDOWS_AT_ONCE];
#pragma GCC unroll 4
  for (int l = 0; l < count; l++) sum[l] = finish->bias ? load(finish->bias) : (vec){0};
  for (i64 p = 0; p < s->p; p++)
    for (i64 q = 0; q < s->q; q++, w += s->c) {
      const real *at = x + p * s->step_h * t->x_row + q * s->step_w * t->x_column + c;
      vec weight = load(w + c);
#pragma GCC unroll 4
      for (int l = 0; l < count; l++) sum[l] += weight * load(at + l * s->stride_w * t->x_column);
    }
#pragma GCC unroll 4
  for (int l = 0; l < count; l++) finish_vector(sum[l], l * s->c, LANES, y, finish);
}

/* y = clamp(w * x + b + other, low, high), w (p, q, c), as many results as channels; y and other
   are channels-last; at least LANES channels */
void KERNEL(depthwise_last)(const real *x, const real *w, const real *b, const real *other,
                            real *y, const i64 *shape, const real *range, real *work) {
  const struct conv_last *s = (const struct conv_last *)shape;
  struct finish finish = finish_of(b, other, range);
  i64 down = pieces(s->grid_h, s->lines), across = pieces(s->grid_w, s->columns);
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
  for (i64 task = 0; task < s->n * down * across; task++) {
    struct strip t = strip_of(s, task);
    read_strip(s, x, &t, work + omp_get_thread_num() * s->work);
    for (i64 i = 0; i < t.lines; i++)
      for (i64 j = 0, count; j < t.columns; j += count) {
        count = t.columns - j >= WINDOWS_AT_ONCE ? WINDOWS_AT_ONCE : 1;
        const real *from = t.x + i * s->stride_h * t.x_row + j * s->stride_w * t.x_column;
        i64 pixel = (t.image * s->grid_h + t.line + i) * s->grid_w + t.column + j;
        for (i64 next = 0; next < s->c; next += LANES) {
          i64 c = min_i64(next, s->c - LANES); /* the last may overlap the one before */
          struct finish here = finish_at(&finish, c, pixel * s->c + c);
          real *to = y + pixel * s->c + c;
          if (count == 1)
            depthwise_windows(1, s, &t, from, w, c, to, &here);
          else
            depthwise_windows(WINDOWS_AT_ONCE, s, &t, from, w, c, to, &here);
        }
      }
  }
}
