/* What every C kernel is written with.

   A family's file is compiled once for each element type and instruction set: `real` is float or
   double, `ISA` the instruction set, and KERNEL(name) the exported name, such as relu_float_avx2.
   Functions that are not exported are `static`: each variant is a translation unit of its own. */
#pragma once
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef long long i64;

#define JOIN_(a, b, c) a##_##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define KERNEL(name) JOIN(name, real, ISA)
#define INLINE static inline __attribute__((always_inline))

/* A vector register: LANES numbers of type real, loaded and stored at any address. */
typedef real vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
enum { LANES = VECTOR_BYTES / sizeof(real) };

INLINE vec load(const real *p) { return *(const vec *)p; }
INLINE void store(real *p, vec v) { *(vec *)p = v; }

/* Store past the caches, p at a whole vector: what is too large to stay there need not be fetched to
   be written. What was so written by a thread is seen by others once it called streamed(). */
#if defined(__x86_64__)
typedef float floats __attribute__((vector_size(VECTOR_BYTES)));
INLINE void stream(real *p, vec v) {
#if VECTOR_BYTES == 64
  __builtin_ia32_movntps512((float *)p, (floats)v);
#elif VECTOR_BYTES == 32
  __builtin_ia32_movntps256((float *)p, (floats)v);
#else
  __builtin_ia32_movntps((float *)p, (floats)v);
#endif
}
INLINE void streamed(void) { __builtin_ia32_sfence(); }
#else
INLINE void stream(real *p, vec v) { store(p, v); }
INLINE void streamed(void) {}
#endif

/* Whether lines of the caches begin at p, and whether also n numbers there would not stay in them until
   the next kernel reads them. */
INLINE int at_line(const real *p) { return (uintptr_t)p % 64 == 0; }
enum { LEAST_FAR = (16 << 20) / sizeof(real) };
INLINE int goes_far(const real *p, i64 n) { return at_line(p) && n > LEAST_FAR; }

INLINE void put(const int far, real *p, vec v) {
  if (far)
    stream(p, v);
  else
    store(p, v);
}

INLINE vec broadcast(real v) { return v - (vec){0}; }

/* Numbers between the scratch memory of one thread and that of the next: past the end of what a thread
   goes through its processor fetches more, up to 64 KB on one of AMD's, which the other thread would
   have to take back. */
enum { APART = 16384 };

/* Fetch the lines where so many vectors stand, to read them or to write to them. */
INLINE void fetch_to_read(const real *p, const int vectors) {
#pragma GCC unroll 8
  for (int i = 0; i < vectors * VECTOR_BYTES; i += 64) __builtin_prefetch((const char *)p + i, 0);
}
INLINE void fetch_to_write(const real *p, const int vectors) {
#pragma GCC unroll 8
  for (int i = 0; i < vectors * VECTOR_BYTES; i += 64) __builtin_prefetch((const char *)p + i, 1);
}

INLINE i64 min_i64(i64 a, i64 b) { return a < b ? a : b; }
INLINE i64 max_i64(i64 a, i64 b) { return a > b ? a : b; }

/* Loops over less than this many numbers are not worth waking the other threads. */
enum { PARALLEL_ABOVE = 16384 };
