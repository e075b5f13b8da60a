/* Arrays joined and taken apart. */

/* y[row, :length] = x[row, :length] for rows that are `from` numbers apart in x and `to` in y */
void KERNEL(copy_rows)(const real *x, i64 first_x, i64 from, real *y, i64 first_y, i64 to,
                       i64 rows, i64 length) {
#pragma omp parallel for if (rows * length > PARALLEL_ABOVE)
  for (i64 row = 0; row < rows; row++) {
    const real *in = x + first_x + row * from;
    real *out = y + first_y + row * to;
    i64 i = 0;
    for (; i + LANES <= length; i += LANES) store(out + i, load(in + i));
    for (; i < length; i++) out[i] = in[i];
  }
}

/* x = 0 */
void KERNEL(clear)(real *x, i64 n) {
  const i64 piece = max_i64(n / omp_get_max_threads() + 1, PARALLEL_ABOVE);
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i += piece) memset(x + i, 0, min_i64(piece, n - i) * sizeof(real));
}

/* y = x, or zeros where x is NULL, for images of pixels whose `c` numbers lie together. */
void KERNEL(copy_pixels)(const real *unused, const real *x, real *y, const i64 *sizes) {
  const struct {
    i64 n, h, w, c, x_image, x_row, x_column, y_image, y_row, y_column;
  } *s = (const void *)sizes;
#pragma omp parallel for if (s->n * s->h * s->w * s->c > PARALLEL_ABOVE)
  for (i64 line = 0; line < s->n * s->h; line++) {
    const real *from = x ? x + line / s->h * s->x_image + line % s->h * s->x_row : NULL;
    real *to = y + line / s->h * s->y_image + line % s->h * s->y_row;
    for (i64 i = 0; i < s->w; i++, to += s->y_column)
      if (from)
        memcpy(to, from + i * s->x_column, s->c * sizeof(real));
      else
        memset(to, 0, s->c * sizeof(real));
  }
}
