/* y = x Wᵀ + b for few rows of x: the weights are read once, from front to back, which is all that
   takes time where they come from memory.

   Several parts of the weights are read side by side, each from front to back: memory delivers more to
   two or three streams than to one, and less again to many; what is in the caches is added up faster
   the more sums there are that do not wait for each other. */
#include "linear.h"

enum { MOST_SUMS = 2 * TILE_ROWS };            /* sums that the registers hold beside the factors */
enum { W_STRIP = 512 };                        /* numbers of a row that stay in the first cache */
enum { LARGE = (8 << 20) / sizeof(real) };     /* numbers that come from memory */

/* How many parts that is for so many rows of x. */
INLINE i64 outs_of(i64 rows, int large) {
  return rows > 2 ? 3 : large ? 2 : rows > 1 ? 4 : MOST_OUTS;
}

/* sum[r * outs + j] += x[r] w[j] lane by lane, for whole vectors of `count` numbers; rows of x and w
   stand so far apart. All these sums are in registers. fetch: w may come from memory */
INLINE void dot_tile(const i64 rows, const i64 outs, const int fetch, const real *x, i64 x_apart,
                     const real *w, i64 w_apart, i64 count, vec *sum) {
  vec part[ALL_SUMS], w_at[MOST_OUTS];
#pragma GCC unroll 8
  for (i64 r = 0; r < rows; r++)
#pragma GCC unroll 6
    for (i64 j = 0; j < outs; j++) part[r * outs + j] = sum[r * outs + j];
  for (i64 k = 0; k + LANES <= count; k += LANES) {
#pragma GCC unroll 6
    for (i64 j = 0; j < outs; j++) {
      if (fetch) fetch_to_read(w + j * w_apart + k + W_FETCHED, 1);
      w_at[j] = load(w + j * w_apart + k);
    }
#pragma GCC unroll 8
    for (i64 r = 0; r < rows; r++) {
      const vec x_at = load(x + r * x_apart + k);
#pragma GCC unroll 6
      for (i64 j = 0; j < outs; j++) MULTIPLY_ADD(part[r * outs + j], x_at, w_at[j]);
    }
  }
#pragma GCC unroll 8
  for (i64 r = 0; r < rows; r++)
#pragma GCC unroll 6
    for (i64 j = 0; j < outs; j++) sum[r * outs + j] = part[r * outs + j];
}

/* The same; where the registers do not hold all sums, of one half of the rows after the other, strip
   by strip. */
INLINE void dot_steps(const i64 rows, const i64 outs, const int fetch, const real *x, i64 x_apart,
                      const real *w, i64 w_apart, i64 count, vec *sum) {
  if (rows * outs <= MOST_SUMS) return dot_tile(rows, outs, fetch, x, x_apart, w, w_apart, count, sum);
  const i64 half = rows / 2;
  for (i64 k = 0; k < count; k += W_STRIP) {
    const i64 part = min_i64(W_STRIP, count - k);
    dot_tile(rows - half, outs, fetch, x + k, x_apart, w + k, w_apart, part, sum);
    dot_tile(half, outs, 0, x + (rows - half) * x_apart + k, x_apart, w + k, w_apart, part,
             sum + (rows - half) * outs);
  }
}

/* The same for less than a vector of numbers, in the lanes from `lane` on. */
INLINE void dot_some(const i64 rows, const i64 outs, const real *x, i64 x_apart, const real *w,
                     i64 w_apart, i64 lane, i64 count, vec *sum) {
  real xs[FEW_ROWS * LANES] = {0}, ws[MOST_OUTS * LANES] = {0};
  for (i64 r = 0; r < rows; r++) memcpy(xs + r * LANES + lane, x + r * x_apart, count * sizeof(real));
  for (i64 j = 0; j < outs; j++) memcpy(ws + j * LANES + lane, w + j * w_apart, count * sizeof(real));
  dot_steps(rows, outs, 0, xs, LANES, ws, LANES, LANES, sum);
}

/* y[r * o + j * apart] = x[r] · w[j * apart] + b[j * apart] for `rows` rows of x and `outs` of w, of
   i numbers; inlined where rows and outs are constants. head: so many numbers stand before the first
   line of the caches of each row of w, whose vectors then cross none; what is added is the same. */
INLINE void dot_rows(const i64 rows, const i64 outs, i64 apart, const real *x, const real *w,
                     const real *b, real *y, i64 i, i64 o, i64 head) {
  vec sum[ALL_SUMS] = {{0}};
  if (head) dot_some(rows, outs, x, i, w, apart * i, LANES - head, head, sum);
  dot_steps(rows, outs, outs <= 3, x + head, i, w + head, apart * i, i - head, sum);
  i64 k = head + (i - head) / LANES * LANES;
  if (head) dot_some(rows, outs, x + k, i, w + k, apart * i, 0, i - k, sum), k = i;
  write_sums(rows, outs, apart, x, w, b, y, i, o, k, head, sum);
}

/* How many numbers of each row of w stand before a line of the caches: 0 where that is not the same
   for all. */
INLINE i64 head_of(const real *w, i64 i) {
  i64 bytes = -(uintptr_t)w % VECTOR_BYTES;
  return i % LANES || bytes % sizeof(real) ? 0 : bytes / sizeof(real);
}

/* A function for each number of rows: in one for all the compiler keeps no sums in registers. */
#define EACH_NUMBER(DO) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)
#define DOTS(n, large)                                                                               \
  static __attribute__((noinline)) void dots_##n##_##large(i64 apart, const real *x, const real *w,  \
                                                           const real *b, real *y, i64 i, i64 o,     \
                                                           i64 head) {                               \
    dot_rows(n, outs_of(n, large), apart, x, w, b, y, i, o, head);                                   \
  }
#define OF_BOTH_SIZES(n) DOTS(n, 0) DOTS(n, 1)
EACH_NUMBER(OF_BOTH_SIZES)
#undef OF_BOTH_SIZES
#undef DOTS

/* y (n, o) = x (n, i) wᵀ + b, n at most FEW_ROWS, w (o, i), b (o,) or NULL */
void KERNEL(linear_few)(const real *x, const real *w, const real *b, real *y, i64 n, i64 i, i64 o) {
#define OF_BOTH_SIZES(n) {dots_##n##_0, dots_##n##_1},
  void (*const dots[FEW_ROWS][2])(i64, const real *, const real *, const real *, real *, i64, i64,
                                  i64) = {EACH_NUMBER(OF_BOTH_SIZES)};
#undef OF_BOTH_SIZES
  const int large = i * o >= LARGE;
  const i64 outs = outs_of(n, large), apart = o / outs, head = large ? head_of(w, i) : 0;
#pragma omp parallel for schedule(static) if (n * i * o > 4 * PARALLEL_ABOVE)
  for (i64 j = 0; j < apart; j++)
    dots[n - 1][large](apart, x, w + j * i, b ? b + j : NULL, y + j, i, o, head);
  for (i64 j = apart * outs; j < o; j++)
    for (i64 r = 0; r < n; r++)
      dot_rows(1, 1, 1, x + r * i, w + j * i, b ? b + j : NULL, y + r * o + j, i, o, head);
}
