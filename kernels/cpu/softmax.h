/* Rows of softmax: x is (outer, count, inner), and a row runs along count.

   With inner = 1 a row is in one piece and its loops become vectors along the row. Otherwise they
   go across neighbouring rows, of which a part has so many that it stays in the nearer caches. */
#pragma once
#include "exponential.h"

enum { SOFTMAX_WIDTH = 512, SOFTMAX_PART = 8192 }; /* rows of a part at most; its numbers, about */

struct softmax {
  i64 count, inner, width, blocks, parts;
};

INLINE struct softmax softmax_of(i64 outer, i64 count, i64 inner) {
  i64 width = min_i64(SOFTMAX_WIDTH, max_i64(SOFTMAX_PART / max_i64(count, 1) / 16 * 16, 64));
  width = max_i64(1, min_i64(width, inner));
  i64 blocks = pieces(inner, width);
  return (struct softmax){count, inner, width, blocks, outer * blocks};
}

enum { ALONE = 1, WEIGHED }; /* how dy is summed */

/* Some rows: of each the greatest x, Σ e and Σ dy or Σ e dy with e = e^(x − greatest). e lies in
   the result, or else, `step` numbers apart along the row, in `kept`: in a large array the cache
   lines along a row may push each other out. start: where the first row begins; place: its number. */
struct softmax_part {
  i64 rows, step, start, place;
  real *e;
  real greatest[SOFTMAX_WIDTH], sum[SOFTMAX_WIDTH], dot[SOFTMAX_WIDTH], kept[SOFTMAX_PART];
};

INLINE void set_part(struct softmax_part *p, struct softmax s, i64 number, real *result) {
  i64 outer = number / s.blocks, first = number % s.blocks * s.width;
  p->rows = min_i64(s.width, s.inner - first);
  p->start = outer * s.count * s.inner + first;
  p->place = outer * s.inner + first;
  int apart = s.inner > 1 && s.count * p->rows <= SOFTMAX_PART;
  p->step = apart ? p->rows : s.inner;
  p->e = apart || !result ? p->kept : result + p->start;
}

#define EACH_PART(s, result, p)                                                            \
  _Pragma("omp parallel for if ((s).parts * (s).count * (s).width > PARALLEL_ABOVE / 4)")  \
  for (i64 number = 0; number < (s).parts; number++)                                       \
    for (struct softmax_part p, *once = (set_part(&p, s, number, result), &p); once; once = NULL)

INLINE void row_exponentials(const real *x, const real *dy, i64 count, struct softmax_part *p,
                             const int keep, const int sum_dy) {
  real *e = p->e, most = -INFINITY, total = 0, dot = 0;
#pragma omp simd reduction(max : most)
  for (i64 i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
#pragma omp simd reduction(+ : total, dot)
  for (i64 i = 0; i < count; i++) {
    real v = falling_exponential(x[i] - most);
    if (keep) e[i] = v;
    if (sum_dy) dot += sum_dy == WEIGHED ? v * dy[i] : dy[i];
    total += v;
  }
  p->greatest[0] = most;
  p->sum[0] = total;
  p->dot[0] = dot;
}

INLINE void column_exponentials(const real *x, const real *dy, i64 count, i64 inner,
                                struct softmax_part *p, const int keep, const int sum_dy) {
  const i64 rows = p->rows;
  real *e = p->e, *greatest = p->greatest, *sum = p->sum, *dot = p->dot;
  for (i64 j = 0; j < rows; j++) greatest[j] = -INFINITY, sum[j] = dot[j] = 0;
  for (i64 i = 0; i < count * inner; i += inner)
#pragma omp simd
    for (i64 j = 0; j < rows; j++) greatest[j] = x[i + j] > greatest[j] ? x[i + j] : greatest[j];
  for (i64 i = 0; i < count * inner; i += inner, e += keep ? p->step : 0) {
    for (i64 j = rows; j < 2 * rows; j += 64 / (i64)sizeof(real)) { /* what comes next to here */
      __builtin_prefetch(x + i + j);
      if (sum_dy) __builtin_prefetch(dy + i + j);
    }
#pragma omp simd
    for (i64 j = 0; j < rows; j++) {
      real v = falling_exponential(x[i + j] - greatest[j]);
      if (keep) e[j] = v;
      if (sum_dy) dot[j] += sum_dy == WEIGHED ? v * dy[i + j] : dy[i + j];
      sum[j] += v;
    }
  }
}

/* The numbers of a part; x, dy: whole arrays. keep: whether e is kept; sum_dy: 0 for not, ALONE or
   WEIGHED. NaN comes through the sum. */
INLINE void exponentials(const real *x, const real *dy, struct softmax s, struct softmax_part *p,
                         const int keep, const int sum_dy) {
  x += p->start, dy += sum_dy ? p->start : 0;
  if (s.inner == 1)
    row_exponentials(x, dy, s.count, p, keep, sum_dy);
  else
    column_exponentials(x, dy, s.count, s.inner, p, keep, sum_dy);
}
