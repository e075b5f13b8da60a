/* y = x Wᵀ + b for few rows of x: the weights are read once, from front to back, which is all that
   takes time. More rows go through shared_product. */

enum { FEW_ROWS = 8 };

/* y[r * o] = x[r] · w + b for `rows` rows of i numbers; inlined where rows is a constant. */
INLINE void dot_rows(const i64 rows, const real *x, const real *w, real b, real *y, i64 i, i64 o) {
  vec sum[FEW_ROWS][2] = {{{0}}};
  i64 k = 0;
  for (; k + 2 * LANES <= i; k += 2 * LANES)
#pragma GCC unroll 8
    for (i64 r = 0; r < rows; r++) {
      sum[r][0] += load(x + r * i + k) * load(w + k);
      sum[r][1] += load(x + r * i + k + LANES) * load(w + k + LANES);
    }
#pragma GCC unroll 8
  for (i64 r = 0; r < rows; r++) {
    vec both = sum[r][0] + sum[r][1];
    real total = b;
    for (i64 l = 0; l < LANES; l++) total += both[l];
    for (i64 rest = k; rest < i; rest++) total += x[r * i + rest] * w[rest];
    y[r * o] = total;
  }
}

/* y (n, o) = x (n, i) wᵀ + b, n at most FEW_ROWS, w (o, i), b (o,) or NULL */
void KERNEL(linear_few)(const real *x, const real *w, const real *b, real *y, i64 n, i64 i, i64 o) {
#pragma omp parallel for schedule(static) if (n * i * o > PARALLEL_ABOVE)
  for (i64 k = 0; k < o; k++) {
    real bias = b ? b[k] : 0;
    switch (n) {
#define CASE(r) case r: dot_rows(r, x, w + k * i, bias, y + k, i, o); break;
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
  }
}

/* y (columns,) = Σ x (rows, columns) */
void KERNEL(row_sum)(const real *x, real *y, i64 rows, i64 columns) {
#pragma omp parallel for schedule(static) if (rows * columns > PARALLEL_ABOVE)
  for (i64 j = 0; j < columns; j += TILE_COLUMNS) {
    i64 width = min_i64(columns - j, TILE_COLUMNS);
    real sum[TILE_COLUMNS] = {0};
    for (i64 row = 0; row < rows; row++)
#pragma omp simd
      for (i64 i = 0; i < width; i++) sum[i] += x[row * columns + j + i];
    memcpy(y + j, sum, width * sizeof(real));
  }
}
