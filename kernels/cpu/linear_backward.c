/* The gradients of y = x Wᵀ + b for few rows of x: dx = dy W reads the weights once, dw += dyᵀ x reads
   and writes their gradient once, which takes all the time where these come from memory. */
#include "linear.h"

enum { BACK_STRIP = 512 };            /* numbers of a row: some rows of them stay in the first cache */
enum { BACK_SUMS = 2, BACK_ROWS = 4 }; /* rows that are added to, and that are multiplied, at once */

/* sums[r] += Σ factors[r * across + g * down] from[g], `count` numbers each, r < sums_rows, g < rows;
   rows stand so far apart. from_ahead, sums_ahead: what is fetched stands so far ahead; 0: nothing is. */
INLINE void add_rows_times(const i64 sums_rows, const i64 rows, const real *factors, i64 across,
                           i64 down, const real *from, i64 from_apart, real *sums, i64 sums_apart,
                           i64 count, i64 from_ahead, i64 sums_ahead) {
  vec by[BACK_SUMS][BACK_ROWS], at[BACK_ROWS];
  i64 k = 0;
#pragma GCC unroll 2
  for (i64 r = 0; r < sums_rows; r++)
#pragma GCC unroll 4
    for (i64 g = 0; g < rows; g++) by[r][g] = broadcast(factors[r * across + g * down]);
  for (; k + LANES <= count; k += LANES) {
#pragma GCC unroll 4
    for (i64 g = 0; g < rows; g++) {
      if (from_ahead) fetch_to_read(from + g * from_apart + k + from_ahead, 1);
      at[g] = load(from + g * from_apart + k);
    }
#pragma GCC unroll 2
    for (i64 r = 0; r < sums_rows; r++) {
      real *to = sums + r * sums_apart + k;
      if (sums_ahead) fetch_to_write(to + sums_ahead, 1);
      vec sum = load(to);
#pragma GCC unroll 4
      for (i64 g = 0; g < rows; g++) MULTIPLY_ADD(sum, at[g], by[r][g]);
      store(to, sum);
    }
  }
  for (; k < count; k++)
    for (i64 r = 0; r < sums_rows; r++)
      for (i64 g = 0; g < rows; g++)
        sums[r * sums_apart + k] += factors[r * across + g * down] * from[g * from_apart + k];
}

/* A function for each number of rows, and for what is fetched: 0 nothing, 1 of `from`, to be read,
   2 of the sums, to be written. */
#define EACH_PAIR(DO, fetch)                                                                       \
  DO(1, 1, fetch) DO(1, 2, fetch) DO(1, 3, fetch) DO(1, 4, fetch)                                  \
  DO(2, 1, fetch) DO(2, 2, fetch) DO(2, 3, fetch) DO(2, 4, fetch)
#define ADD_ROWS(s, r, fetch)                                                                      \
  static __attribute__((noinline)) void add_##s##_##r##_##fetch(                                   \
      const real *factors, i64 across, i64 down, const real *from, i64 from_apart, real *sums,     \
      i64 sums_apart, i64 count, i64 ahead) {                                                      \
    add_rows_times(s, r, factors, across, down, from, from_apart, sums, sums_apart, count,         \
                   fetch == 1 ? ahead : 0, fetch == 2 ? ahead : 0);                                \
  }
EACH_PAIR(ADD_ROWS, 0)
EACH_PAIR(ADD_ROWS, 1)
EACH_PAIR(ADD_ROWS, 2)
#undef ADD_ROWS

typedef void add_rows_function(const real *, i64, i64, const real *, i64, real *, i64, i64, i64);

static add_rows_function *add_rows_of(i64 sums_rows, i64 rows, int fetch) {
#define NAME(s, r, fetch) add_##s##_##r##_##fetch,
  static add_rows_function *const all[3][BACK_SUMS * BACK_ROWS] = {
      {EACH_PAIR(NAME, 0)}, {EACH_PAIR(NAME, 1)}, {EACH_PAIR(NAME, 2)}};
#undef NAME
  return all[fetch][(sums_rows - 1) * BACK_ROWS + rows - 1];
}

/* dx (n, i) = dy (n, o) w (o, i), n at most FEW_ROWS; each strip of the columns by one of the threads */
void KERNEL(linear_few_dx)(const real *dy, const real *w, real *dx, i64 n, i64 i, i64 o, i64 threads) {
  const i64 each = min_i64(BACK_STRIP, pieces(pieces(i, threads), LANES) * LANES);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (i64 at = 0; at < i; at += each) {
    const i64 count = min_i64(each, i - at);
    real sums[FEW_ROWS * BACK_STRIP] __attribute__((aligned(64)));
    memset(sums, 0, n * BACK_STRIP * sizeof(real));
    for (i64 j = 0; j < o; j += BACK_ROWS)
      for (i64 r = 0; r < n; r += BACK_SUMS)
        add_rows_of(min_i64(BACK_SUMS, n - r), min_i64(BACK_ROWS, o - j), r == 0)(
            dy + r * o + j, o, 1, w + j * i + at, i, sums + r * BACK_STRIP, BACK_STRIP, count,
            BACK_ROWS * i);
    for (i64 r = 0; r < n; r++)
      memcpy(dx + r * i + at, sums + r * BACK_STRIP, count * sizeof(real));
  }
}

/* dw (o, i) += dyᵀ x of dy (n, o), x (n, i), n at most FEW_ROWS */
void KERNEL(linear_few_dw)(const real *x, const real *dy, real *dw, i64 n, i64 i, i64 o, i64 threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (i64 j = 0; j < o; j += BACK_SUMS)
    for (i64 at = 0; at < i; at += BACK_STRIP)
      for (i64 r = 0; r < n; r += BACK_ROWS)
        add_rows_of(min_i64(BACK_SUMS, o - j), min_i64(BACK_ROWS, n - r), r == 0 ? 2 : 0)(
            dy + r * o + j, 1, o, x + r * i + at, i, dw + j * i + at, i,
            min_i64(BACK_STRIP, i - at), W_FETCHED);
}
