/* eˣ, eˣ − 1 and ln(1 + e) without branches, so that the compiler makes vectors of loops over them.

   float: eˣ = 2ⁿ (1 + q) with n = round(x / ln 2) and q a polynomial in the rest |r| ≤ ln 2 / 2
   (the minimax coefficients of Moshier's Cephes library); at most 1.1 units in the last place off
   over all floats, denormal results too (eˣ − 1: 1.7 units). double: the C library's. */
#pragma once

INLINE real magnitude(real x) { return sizeof(real) == 4 ? fabsf(x) : fabs(x); }

#if REAL_IS_FLOAT
/* q of eˣ = 2ⁿ (1 + q); the last bits of *bits become n + bias */
INLINE float exponential_rest(float x, float bias, uint32_t *bits) {
  const float round = 12582912 + bias; /* 1.5 · 2²³: adding it leaves no bits for a fraction */
  union {
    float value;
    uint32_t bits;
  } sum = {x * 1.44269504f + round};
  float n = sum.value - round, r = x - n * 0.693359375f;
  r += n * 2.12194440e-4f; /* ln 2 in two parts; the product with the first is exact */
  float square = r * r, p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * square + (8.3334519073e-3f * r + 4.1665795894e-2f);
  p = p * square + (1.6666665459e-1f * r + 5.0000001201e-1f);
  *bits = sum.bits;
  return p * square + r;
}

/* 2ⁿ of the last nine bits n + 127 */
INLINE float power_of_two(uint32_t bits) {
  union {
    uint32_t bits;
    float value;
  } two = {bits << 23};
  return two.value;
}

INLINE real exponential(real x) {
  x = x < -104 ? -104 : x; /* NaN stays NaN */
  x = x > 89 ? 89 : x;
  uint32_t bits;
  float q = exponential_rest(x, 2 * 127, &bits);
  float two = power_of_two(bits >> 1); /* in two steps: 2ⁿ itself may overflow or lose its bits */
  return (two * q + two) * power_of_two(bits - (bits >> 1));
}

/* eˣ for x ≤ 0: as above, but 2⁶⁴ times as much, which is no denormal yet */
INLINE real falling_exponential(real x) {
  x = x < -104 ? -104 : x;
  uint32_t bits;
  float q = exponential_rest(x, 64 + 127, &bits), two = power_of_two(bits);
  return (two * q + two) * 5.42101086e-20f;
}

/* eˣ − 1 for x ≤ 88 */
INLINE real exponential_minus_1(real x) {
  x = x < -87 ? -87 : x;
  uint32_t bits;
  float q = exponential_rest(x, 127, &bits), two = power_of_two(bits);
  return two * q + (two - 1);
}

/* ln(1 + e) for 0 ≤ e ≤ 1: 2 artanh(e / (2 + e)) by its series, whose argument is at most 1/3;
   at most 2 units off */
INLINE real logarithm_plus_1(real e) {
  float s = e / (2 + e), square = s * s, p = 1.0f / 15;
  p = p * square + 1.0f / 13;
  p = p * square + 1.0f / 11;
  p = p * square + 1.0f / 9;
  p = p * square + 1.0f / 7;
  p = p * square + 1.0f / 5;
  p = p * square + 1.0f / 3;
  return 2 * (s + s * square * p);
}

/* ln x for 1 ≤ x < ∞ */
INLINE real logarithm_above_1(real x) {
  union {
    float value;
    uint32_t bits;
  } all = {x}, rest = {.bits = (all.bits & 0x7FFFFF) | 0x3F800000}; /* x = 2ⁿ · rest */
  float n = (float)((int)(all.bits >> 23) - 127), y = logarithm_plus_1(rest.value - 1);
  return x == x ? n * 0.693147181f + y : x;
}
#else
INLINE real logarithm_above_1(real x) { return log(x); }
INLINE real logarithm_plus_1(real e) { return log1p(e); }
INLINE real exponential(real x) { return exp(x); }
INLINE real falling_exponential(real x) { return exp(x); }
INLINE real exponential_minus_1(real x) { return expm1(x); }
#endif

/* 1 / (1 + e⁻ˣ); no overflow for any x; at most 2.5 units off over all floats */
INLINE real logistic(real x) {
  real e = falling_exponential(-magnitude(x));
  return (x < 0 ? e : 1) / (1 + e);
}
