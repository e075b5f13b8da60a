/* y = x Wᵀ + b for few rows of x: the weights are read once, from front to back, which is all that
   takes time. More rows go through shared_product.

   Several parts of the weights are read side by side, each from front to back: memory delivers more
   to several streams. */

enum { FEW_ROWS = 8, MOST_SUMS = 12, MOST_OUTS = 6 };

/* How many parts that is for so many rows of x: the sums are to stay in registers. */
INLINE i64 outs_of(i64 rows) { return min_i64(MOST_OUTS, max_i64(1, MOST_SUMS / rows)); }

/* Σ v in a fixed order, by halves, of lanes that begin with the one before the last `turned` */
INLINE real sum_of_lanes(vec v, i64 turned) {
  real part[2 * LANES], total = 0;
  store(part, v);
  store(part + LANES, v);
  const real *first = part + (LANES - turned) % LANES;
#pragma omp simd reduction(+ : total)
  for (i64 l = 0; l < LANES; l++) total += first[l];
  return total;
}

/* sum[r][j] += x[r] w[j] lane by lane, for whole vectors of `count` numbers; rows of x and w stand so
   far apart */
INLINE void dot_steps(const i64 rows, const i64 outs, const real *x, i64 x_apart, const real *w,
                      i64 w_apart, i64 count, vec sum[][MOST_OUTS]) {
  for (i64 k = 0; k + LANES <= count; k += LANES) {
    vec x_at[FEW_ROWS], w_at[MOST_OUTS]; /* the fewer stay in registers */
#pragma GCC unroll 8
    for (i64 r = 0; r < rows && rows <= outs; r++) x_at[r] = load(x + r * x_apart + k);
#pragma GCC unroll 8
    for (i64 j = 0; j < outs && rows > outs; j++) w_at[j] = load(w + j * w_apart + k);
#pragma GCC unroll 64
    for (i64 t = 0; t < rows * outs; t++) {
      i64 r = rows > outs ? t / outs : t % rows, j = rows > outs ? t % outs : t / rows;
      if (rows > outs && j == 0) x_at[r] = load(x + r * x_apart + k);
      if (rows <= outs && r == 0) w_at[j] = load(w + j * w_apart + k);
      MULTIPLY_ADD(sum[r][j], x_at[r], w_at[j]);
    }
  }
}

/* The same for less than a vector of numbers, in the lanes from `lane` on. */
INLINE void dot_some(const i64 rows, const i64 outs, const real *x, i64 x_apart, const real *w,
                     i64 w_apart, i64 lane, i64 count, vec sum[][MOST_OUTS]) {
  real xs[FEW_ROWS * LANES] = {0}, ws[MOST_OUTS * LANES] = {0};
  for (i64 r = 0; r < rows; r++) memcpy(xs + r * LANES + lane, x + r * x_apart, count * sizeof(real));
  for (i64 j = 0; j < outs; j++) memcpy(ws + j * LANES + lane, w + j * w_apart, count * sizeof(real));
  dot_steps(rows, outs, xs, LANES, ws, LANES, LANES, sum);
}

/* y[r * o + j * apart] = x[r] · w[j * apart] + b[j * apart] for `rows` rows of x and `outs` of w, of
   i numbers; inlined where rows and outs are constants. head: so many numbers stand before the first
   line of the caches of each row of w, whose vectors then cross none; what is added is the same. */
INLINE void dot_rows(const i64 rows, const i64 outs, i64 apart, const real *x, const real *w,
                     const real *b, real *y, i64 i, i64 o, i64 head) {
  vec sum[FEW_ROWS][MOST_OUTS] = {{{0}}};
  if (head) dot_some(rows, outs, x, i, w, apart * i, LANES - head, head, sum);
  dot_steps(rows, outs, x + head, i, w + head, apart * i, i - head, sum);
  i64 k = head + (i - head) / LANES * LANES;
  if (head) dot_some(rows, outs, x + k, i, w + k, apart * i, 0, i - k, sum), k = i;
#pragma GCC unroll 8
  for (i64 j = 0; j < outs; j++)
#pragma GCC unroll 8
    for (i64 r = 0; r < rows; r++) {
      real total = sum_of_lanes(sum[r][j], head);
      for (i64 rest = k; rest < i; rest++) total += x[r * i + rest] * w[j * apart * i + rest];
      y[r * o + j * apart] = b ? total + b[j * apart] : total;
    }
}

enum { LARGE = (8 << 20) / sizeof(real) }; /* numbers that come from memory */

/* How many numbers of each row of a large w stand before a line of the caches: 0 where that is not the
   same for all. */
INLINE i64 head_of(const real *w, i64 i, i64 o) {
  i64 bytes = -(uintptr_t)w % VECTOR_BYTES;
  return i % LANES || bytes % sizeof(real) || i * o < LARGE ? 0 : bytes / sizeof(real);
}

/* y (n, o) = x (n, i) wᵀ + b, n at most FEW_ROWS, w (o, i), b (o,) or NULL */
void KERNEL(linear_few)(const real *x, const real *w, const real *b, real *y, i64 n, i64 i, i64 o) {
  const i64 apart = o / outs_of(n), head = head_of(w, i, o);
#pragma omp parallel for schedule(static) if (n * i * o > 4 * PARALLEL_ABOVE)
  for (i64 j = 0; j < apart; j++) {
    const real *bias = b ? b + j : NULL;
    switch (n) {
#define CASE(r) case r: dot_rows(r, outs_of(r), apart, x, w + j * i, bias, y + j, i, o, head); break;
      CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    }
  }
  for (i64 j = apart * outs_of(n); j < o; j++)
    for (i64 r = 0; r < n; r++)
      dot_rows(1, 1, 1, x + r * i, w + j * i, b ? b + j : NULL, y + r * o + j, i, o, head);
}
