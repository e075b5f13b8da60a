/* Rows of a table, looked up by their numbers. */

/* y[i] = w[x[i]], rows of d numbers */
void KERNEL(embedding)(const real *w, const i64 *x, real *y, i64 n, i64 d) {
#pragma omp parallel for if (n * d > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) memcpy(y + i * d, w + x[i] * d, d * sizeof(real));
}

/* dw[rows[r]] += Σ dy over the row's places, in their order whatever the threads */
void KERNEL(embedding_backward)(const real *dy, const i64 *places, const i64 *begins,
                                const i64 *rows, real *dw, i64 count, i64 n, i64 d,
                                i64 by_frequency) {
#pragma omp parallel for schedule(dynamic, 16) if (n * d > PARALLEL_ABOVE)
  for (i64 r = 0; r < count; r++) {
    real *to = dw + rows[r] * d;
    const real scale = by_frequency ? 1 / (real)(begins[r + 1] - begins[r]) : 1;
    for (i64 i = begins[r]; i < begins[r + 1]; i++) {
      const real *from = dy + places[i] * d;
#pragma omp simd
      for (i64 j = 0; j < d; j++) to[j] += scale * from[j];
    }
  }
}
