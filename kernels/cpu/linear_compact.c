/* y = x Wᵀ + b as linear.c, of large weights that lie in memory in 28 bits each instead of 32, since
   reading them takes all the time. Nothing is lost: the results are the same bit for bit.

   The exponents in a block of BLOCK vectors are few. Where the smallest is at most WINDOW below the
   greatest, 4 bits say which one it is: 28 with the sign and the fraction. So the first BLOCK - 1
   vectors have 4 bits to spare, and these hold the last vector, from its lowest bits to its sign. A
   block of other exponents, such as one in which a number is zero, stays as it is. */
#include "linear.h"

enum { BLOCK = 8, BLOCK_SIZE = BLOCK * LANES, FRACTION = 23, SPARE = 4, WINDOW = (1 << SPARE) - 1 };

typedef uint32_t words __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
typedef int32_t integers __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));

INLINE words words_at(const real *p) { return *(const words *)p; }

#define SPARED ((uint32_t)WINDOW << (FRACTION + SPARE)) /* the bits of an exponent that are left out */

/* Numbers without these bits of their exponents, and with them again, whatever is in their place. */
INLINE words compacted(words v, uint32_t window) { return (v - (window << FRACTION)) & ~SPARED; }
INLINE vec numbers(words v, uint32_t window) { return (vec)((v & ~SPARED) + (window << FRACTION)); }

/* The smallest exponent of the block's window, 0 if not all are in one. */
static unsigned char window_of(const real *w) {
  const integers magnitude = (integers){0} + 0x7FFFFFFF;
  integers least = magnitude, most = {0};
  for (i64 k = 0; k < BLOCK_SIZE; k += LANES) {
    const integers v = (integers)words_at(w + k) & magnitude, less = v < least, more = v > most;
    least = (v & less) | (least & ~less), most = (v & more) | (most & ~more);
  }
  i64 smallest = least[0], greatest = most[0];
  for (i64 l = 1; l < LANES; l++)
    smallest = min_i64(smallest, least[l]), greatest = max_i64(greatest, most[l]);
  const i64 window = max_i64((greatest >> FRACTION) - WINDOW, 1);
  return smallest >> FRACTION < window ? 0 : window;
}

/* windows (blocks,): of each block of w the smallest exponent, 0 for one that stays as it is */
void KERNEL(compact_windows)(const real *w, unsigned char *windows, i64 blocks) {
#pragma omp parallel for schedule(static)
  for (i64 block = 0; block < blocks; block++) windows[block] = window_of(w + block * BLOCK_SIZE);
}

/* to: the o rows of w, of so many blocks each, one after another; row j begins at starts[j] */
void KERNEL(compact)(const real *w, const unsigned char *windows, const i64 *starts, real *to, i64 o,
                     i64 blocks) {
#pragma omp parallel for schedule(static)
  for (i64 j = 0; j < o; j++) {
    real *at = to + starts[j];
    for (i64 block = j * blocks; block < (j + 1) * blocks; block++) {
      const real *from = w + block * BLOCK_SIZE;
      const uint32_t window = windows[block];
      words last = compacted(words_at(from + (BLOCK - 1) * LANES), window);
      last = (last & 0x80000000) | last << SPARE; /* 28 bits from the first on */
      for (i64 k = 0; k < BLOCK - (window > 0); k++, at += LANES) {
        words v = words_at(from + k * LANES);
        if (window) v = compacted(v, window) | ((last << (BLOCK - 2 - k) * SPARE >> 1) & SPARED);
        store(at, (vec)v);
      }
    }
  }
}

/* sum[r * outs] += x[r] w lane by lane */
INLINE void dot_vector(const i64 rows, const i64 outs, const real *x, i64 x_apart, vec w, vec *sum) {
#pragma GCC unroll 2
  for (i64 r = 0; r < rows; r++) MULTIPLY_ADD(sum[r * outs], load(x + r * x_apart), w);
}

/* The same of a block of w; where the next one is. */
INLINE const real *dot_block(const i64 rows, const i64 outs, const real *x, i64 x_apart, const real *w,
                             uint32_t window, vec *sum) {
  if (!window) {
#pragma GCC unroll 8
    for (i64 k = 0; k < BLOCK_SIZE; k += LANES)
      dot_vector(rows, outs, x + k, x_apart, load(w + k), sum);
    return w + BLOCK_SIZE;
  }
  words last = {0};
#pragma GCC unroll 7
  for (i64 k = 0; k < BLOCK_SIZE - LANES; k += LANES) {
    const words v = words_at(w + k);
    fetch_to_read(w + k + W_FETCHED, 1);
    dot_vector(rows, outs, x + k, x_apart, numbers(v, window), sum);
    last = last >> SPARE | (v & SPARED);
  }
  last = (words)((integers)(last << 1) >> SPARE);
  dot_vector(rows, outs, x + BLOCK_SIZE - LANES, x_apart, numbers(last, window), sum);
  return w + BLOCK_SIZE - LANES;
}

/* y[r * o + j * apart] as dot_rows gives it; windows, starts: of the first of these rows of weights */
INLINE void dot_compact(const i64 rows, const i64 outs, i64 apart, const real *x, const real *w,
                        const unsigned char *windows, const i64 *starts, const real *b, real *y, i64 i,
                        i64 o) {
  const i64 blocks = i / BLOCK_SIZE;
  const real *at[MOST_OUTS];
  vec sum[ALL_SUMS] = {{0}};
#pragma GCC unroll 2
  for (i64 j = 0; j < outs; j++) at[j] = w + starts[j * apart];
  for (i64 block = 0; block < blocks; block++, x += BLOCK_SIZE)
#pragma GCC unroll 2
    for (i64 j = 0; j < outs; j++)
      at[j] = dot_block(rows, outs, x, i, at[j], windows[j * apart * blocks + block], sum + j);
  write_sums(rows, outs, apart, NULL, NULL, b, y, i, o, i, 0, sum);
}

/* linear_few of what compact made of w; n is 1 or 2, i whole blocks */
void KERNEL(linear_compact)(const real *x, const real *w, const unsigned char *windows,
                            const i64 *starts, const real *b, real *y, i64 n, i64 i, i64 o) {
  enum { OUTS = 2 };
  const i64 apart = o / OUTS, blocks = i / BLOCK_SIZE;
#pragma omp parallel for schedule(static)
  for (i64 j = 0; j < apart; j++) {
    const unsigned char *from = windows + j * blocks;
    const real *bias = b ? b + j : NULL;
    if (n == 1)
      dot_compact(1, OUTS, apart, x, w, from, starts + j, bias, y + j, i, o);
    else
      dot_compact(2, OUTS, apart, x, w, from, starts + j, bias, y + j, i, o);
  }
  for (i64 j = apart * OUTS; j < o; j++)
    for (i64 r = 0; r < n; r++)
      dot_compact(1, 1, 1, x + r * i, w, windows + j * blocks, starts + j, b ? b + j : NULL,
                  y + r * o + j, i, o);
}
