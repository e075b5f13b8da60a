/* MULTIPLY_ADD(sum, a, b): sum += a b, three vectors, the sum staying in its register.

   Left to choose among the forms of this instruction the compiler takes such that overwrite a
   factor, and then moves registers about, which costs up to a fifth of a product's speed. */
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
