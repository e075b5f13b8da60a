/* Windows of images whose channels lie innermost in memory, and places in a plane: a lane each. */
#pragma once
#include "kernel.h"

#if REAL_IS_FLOAT
typedef int mask __attribute__((vector_size(VECTOR_BYTES)));
#else
typedef i64 mask __attribute__((vector_size(VECTOR_BYTES)));
#endif

typedef int positions __attribute__((vector_size(VECTOR_BYTES / sizeof(real) * sizeof(int))));

INLINE void store_positions(int *p, mask v, i64 n) {
  const positions short_v = __builtin_convertvector(v, positions);
  memcpy(p, &short_v, n * sizeof(int));
}

/* The rows or columns of one window that lie in the image: first, first + step, … before end. */
typedef struct {
  i64 first, end, step;
} Span;

INLINE Span span(i64 start, i64 taps, i64 step, i64 size) {
  i64 skipped = start < 0 ? (-start + step - 1) / step : 0;
  return (Span){start + skipped * step, min_i64(size, start + (taps - 1) * step + 1), step};
}
