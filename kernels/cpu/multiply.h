/* MULTIPLY_ADD(sum, a, b): sum += a b, three vectors, the sum staying in its register.

   Left to choose among the forms of this instruction the compiler takes such that overwrite a
   factor, and then moves registers about. */
#pragma once

#if defined(ISA_IS_AVX2) || defined(ISA_IS_AVX512)
#if defined(REAL_IS_FLOAT)
#define MULTIPLY_ADD(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#else
#define MULTIPLY_ADD(sum, a, b) __asm__("vfmadd231pd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#endif
#else
#define MULTIPLY_ADD(sum, a, b) ((sum) += (a) * (b))
#endif

typedef __typeof__((vec){0} < (vec){0}) lanes_mask;

/* Lane by lane the greater or the smaller of two; where b is not a number, b. */
#if defined(ISA_IS_AVX512) && defined(REAL_IS_FLOAT)
#define GREATER(a, b) ((vec)__builtin_ia32_maxps512_mask(a, b, b, -1, ROUNDED_AS_EVER))
#define SMALLER(a, b) ((vec)__builtin_ia32_minps512_mask(a, b, b, -1, ROUNDED_AS_EVER))
enum { ROUNDED_AS_EVER = 4 }; /* _MM_FROUND_CUR_DIRECTION */
#elif defined(ISA_IS_AVX2) && defined(REAL_IS_FLOAT)
#define GREATER(a, b) ((vec)__builtin_ia32_maxps256(a, b))
#define SMALLER(a, b) ((vec)__builtin_ia32_minps256(a, b))
#else
INLINE vec choose(lanes_mask where, vec a, vec b) { /* a where the condition holds, else b */
  return (vec)(((lanes_mask)a & where) | ((lanes_mask)b & ~where));
}
#define GREATER(a, b) choose((b) < (a), a, b)
#define SMALLER(a, b) choose((b) > (a), a, b)
#endif

/* The greater of two, and where either is not a number all bits set, which is none either. */
INLINE vec greater_or_none(vec a, vec b) {
  return (vec)((lanes_mask)GREATER(a, b) | (lanes_mask)(a != a));
}
