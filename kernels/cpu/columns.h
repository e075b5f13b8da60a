/* Sums down the columns of a matrix: what channels are where they lie innermost in memory.

   ROW_PART rows are summed in their own type and these sums in double, in a fixed order; up to
   COLUMN_BLOCK neighbouring columns go together. */
#pragma once
#include "multiply.h"

enum { ROW_PART = 128, COLUMN_BLOCK = 256 };

/* Of what comes from memory so many numbers are fetched ahead: what a processor fetches by itself, of one
   array or two, may come later than the memory could give it. */
enum { AHEAD = 1024 };

/* Fetch the row of `count` numbers that comes AHEAD of the one at x, where x comes from so far. */
INLINE void fetch_ahead(const int far, const real *x, i64 step, i64 count) {
  if (!far) return;
  const real *at = x + pieces(AHEAD, count) * step;
  for (i64 k = 0; k < count; k += 64 / (i64)sizeof(real)) __builtin_prefetch(at + k, 0, 2);
}

/* Columns of which the sums stay in registers while some rows go by: vectors side by side. */
struct span {
  i64 at, vectors;
};

enum { WIDEST = VECTOR_BYTES == 64 ? 8 : 4 }; /* vectors, with two sums each: half of the registers */

/* The span after another one ({0} for the first) of `count` columns, which fill a vector at least;
   the last one may overlap the one before. No vectors: there is none. */
INLINE struct span span_after(struct span s, i64 count) {
  const i64 at = s.at + s.vectors * LANES, left = count - at;
  if (left <= 0 || count < LANES) return (struct span){count, 0};
  if (left < LANES) return (struct span){count - LANES, 1};
  i64 vectors = WIDEST;
  while (vectors > left / LANES) vectors /= 2;
  return (struct span){at, vectors};
}

#if VECTOR_BYTES == 64
#define EACH_SPAN(CASE) CASE(1) CASE(2) CASE(4) CASE(8)
#else
#define EACH_SPAN(CASE) CASE(1) CASE(2) CASE(4)
#endif

/* totals[k] += Σ x[row, k] over rows `step` numbers apart, for k < count <= COLUMN_BLOCK; far: x comes
   from memory */
static void add_rows(const real *x, double *totals, i64 rows, i64 step, i64 count, const int far) {
  for (i64 start = 0; start < rows; start += ROW_PART) {
    real part[COLUMN_BLOCK] = {0};
    for (i64 i = start; i < min_i64(rows, start + ROW_PART); i++) {
      fetch_ahead(far, x + i * step, step, count);
#pragma omp simd
      for (i64 k = 0; k < count; k++) part[k] += x[i * step + k];
    }
    for (i64 k = 0; k < count; k++) totals[k] += part[k];
  }
}

/* (x - mean) scale + shift of the channels from k on: the same bits forward and backward */
INLINE vec normal(vec apart, const real *scale, const real *shift, i64 k) {
  vec v = load(shift + k);
  MULTIPLY_ADD(v, apart, load(scale + k));
  return v;
}

/* Where the lanes of a vector are above 0, written as a bit each and read again: MARKS where that fills
   whole bytes. */
#if defined(ISA_IS_AVX512) && defined(REAL_IS_FLOAT)
#define MARKS 1
enum { ABOVE = 30 }; /* _CMP_GT_OQ */
typedef unsigned short lane_bits;
INLINE lane_bits above_zero(vec v) {
  return __builtin_ia32_cmpps512_mask(v, (vec){0}, ABOVE, -1, ROUNDED_AS_EVER);
}
#elif defined(ISA_IS_AVX2) && defined(REAL_IS_FLOAT)
#define MARKS 1
typedef unsigned char lane_bits;
INLINE lane_bits above_zero(vec v) { return __builtin_ia32_movmskps256((vec)(v > (vec){0})); }
#else
#define MARKS 0
typedef unsigned char lane_bits; /* of no use */
INLINE lane_bits above_zero(vec v) { return (void)v, 0; }
#endif

/* Write the marks of the vector whose first number is number k of those that `marks` begins with. */
INLINE void mark(unsigned char *marks, i64 k, vec v) {
  const lane_bits bits = above_zero(v);
  memcpy(marks + k / 8, &bits, sizeof bits);
}

/* by where a vector has marks, else 0 */
INLINE vec marked(vec by, const unsigned char *marks, i64 k) {
  lane_bits bits;
  memcpy(&bits, marks + k / 8, sizeof bits);
  lanes_mask each;
#pragma GCC unroll 16
  for (int l = 0; l < LANES; l++) each[l] = 1 << l;
  return (vec)((lanes_mask)by & (((each - each + bits) & each) != 0));
}

/* by where the value shown is above 0, else 0 */
INLINE vec passed(vec by, vec shown) {
  return (vec)((__typeof__(shown > shown))by & (shown > (vec){0}));
}
