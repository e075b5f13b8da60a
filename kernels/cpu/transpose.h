/* Square blocks transposed in registers. */
#pragma once

#if defined(REAL_IS_FLOAT)
typedef int32_t picks __attribute__((vector_size(VECTOR_BYTES)));
#define LANE_COUNT (VECTOR_BYTES / 4)
#else
typedef int64_t picks __attribute__((vector_size(VECTOR_BYTES)));
#define LANE_COUNT (VECTOR_BYTES / 8)
#endif

/* f(0, s), f(1, s) and so on, one for each lane */
#define PICK_2(f, s, l) f(l, s), f(l + 1, s)
#define PICK_4(f, s, l) PICK_2(f, s, l), PICK_2(f, s, l + 2)
#define PICK_8(f, s, l) PICK_4(f, s, l), PICK_4(f, s, l + 4)
#define PICK_16(f, s, l) PICK_8(f, s, l), PICK_8(f, s, l + 8)
#if LANE_COUNT == 2
#define PICK(f, s) ((picks){PICK_2(f, s, 0)})
#elif LANE_COUNT == 4
#define PICK(f, s) ((picks){PICK_4(f, s, 0)})
#elif LANE_COUNT == 8
#define PICK(f, s) ((picks){PICK_8(f, s, 0)})
#else
#define PICK(f, s) ((picks){PICK_16(f, s, 0)})
#endif
#define UPPER(l, s) ((l) & s ? LANES + (l) - s : (l))
#define LOWER(l, s) ((l) & s ? LANES + (l) : (l) + s)

/* Exchange blocks of s by s across the diagonal. What is picked is written as constants: only then
   does the compiler find the instructions for it. */
#define EXCHANGE(s)                                                        \
  _Pragma("GCC unroll 16") for (int i = 0; i < LANES; i++) if (!(i & s)) { \
    vec a = v[i], b = v[i + s];                                            \
    v[i] = __builtin_shuffle(a, b, PICK(UPPER, s));                        \
    v[i + s] = __builtin_shuffle(a, b, PICK(LOWER, s));                    \
  }

/* Transpose LANES vectors in registers: exchange ever larger blocks. */
INLINE void transpose(vec v[LANES]) {
  EXCHANGE(1)
#if LANE_COUNT > 2
  EXCHANGE(2)
#endif
#if LANE_COUNT > 4
  EXCHANGE(4)
#endif
#if LANE_COUNT > 8
  EXCHANGE(8)
#endif
}
