/* y = x Wᵀ + b for few rows of x: the weights are read once, from front to back, which is all that
   takes time. More rows go through shared_product.

   Several parts of the weights are read side by side, each from front to back: memory delivers more
   to several streams. */

enum { FEW_ROWS = 8, MOST_SUMS = 12, MOST_OUTS = 6 };

/* How many parts that is for so many rows of x: the sums are to stay in registers. */
INLINE i64 outs_of(i64 rows) { return min_i64(MOST_OUTS, max_i64(1, MOST_SUMS / rows)); }

/* Σ v in a fixed order, by halves */
INLINE real sum_of_lanes(vec v) {
  real part[LANES], total = 0;
  store(part, v);
#pragma omp simd reduction(+ : total)
  for (i64 l = 0; l < LANES; l++) total += part[l];
  return total;
}

/* y[r * o + j * apart] = x[r] · w[j * apart] + b[j * apart] for `rows` rows of x and `outs` of w, of
   i numbers; inlined where rows and outs are constants. */
INLINE void dot_rows(const i64 rows, const i64 outs, i64 apart, const real *x, const real *w,
                     const real *b, real *y, i64 i, i64 o) {
  vec sum[FEW_ROWS][MOST_OUTS] = {{{0}}};
  i64 k = 0;
  for (; k + LANES <= i; k += LANES) {
    vec x_at[FEW_ROWS], w_at[MOST_OUTS]; /* the fewer stay in registers */
#pragma GCC unroll 8
    for (i64 r = 0; r < rows && rows <= outs; r++) x_at[r] = load(x + r * i + k);
#pragma GCC unroll 8
    for (i64 j = 0; j < outs && rows > outs; j++) w_at[j] = load(w + j * apart * i + k);
#pragma GCC unroll 64
    for (i64 t = 0; t < rows * outs; t++) {
      i64 r = rows > outs ? t / outs : t % rows, j = rows > outs ? t % outs : t / rows;
      if (rows > outs && j == 0) x_at[r] = load(x + r * i + k);
      if (rows <= outs && r == 0) w_at[j] = load(w + j * apart * i + k);
      MULTIPLY_ADD(sum[r][j], x_at[r], w_at[j]);
    }
  }
#pragma GCC unroll 8
  for (i64 j = 0; j < outs; j++)
#pragma GCC unroll 8
    for (i64 r = 0; r < rows; r++) {
      real total = sum_of_lanes(sum[r][j]);
      for (i64 rest = k; rest < i; rest++) total += x[r * i + rest] * w[j * apart * i + rest];
      y[r * o + j * apart] = b ? total + b[j * apart] : total;
    }
}

/* y (n, o) = x (n, i) wᵀ + b, n at most FEW_ROWS, w (o, i), b (o,) or NULL */
void KERNEL(linear_few)(const real *x, const real *w, const real *b, real *y, i64 n, i64 i, i64 o) {
  const i64 apart = o / outs_of(n);
#pragma omp parallel for schedule(static) if (n * i * o > 4 * PARALLEL_ABOVE)
  for (i64 j = 0; j < apart; j++) {
    const real *bias = b ? b + j : NULL;
    switch (n) {
#define CASE(r) case r: dot_rows(r, outs_of(r), apart, x, w + j * i, bias, y + j, i, o); break;
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
  }
  for (i64 j = apart * outs_of(n); j < o; j++)
    for (i64 r = 0; r < n; r++)
      dot_rows(1, 1, 1, x + r * i, w + j * i, b ? b + j : NULL, y + r * o + j, i, o);
}
