/* eˣ, eˣ − 1 and ln(1 + e) without branches, so that the compiler makes vectors of loops over them.

   float: eˣ = 2ⁿ (1 + q) with n = round(x / ln 2) and q a polynomial in the rest |r| ≤ ln 2 / 2
   (the minimax coefficients of Moshier's Cephes library); at most 1.1 units in the last place off
   over all floats, denormal results too (eˣ − 1: 1.7 units). double: the C library's. */
#pragma once

#if REAL_IS_FLOAT
/* q of eˣ = 2ⁿ (1 + q); n comes back as a whole number */
INLINE float exponential_rest(float x, float *n) {
  const float round = 12582912; /* 1.5 · 2²³: adding it leaves no bits for a fraction */
  *n = (x * 1.44269504f + round) - round;
  float r = x - *n * 0.693359375f; /* ln 2 in two parts; the product with the first is exact */
  r += *n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * r * r + r;
}

/* 2ⁿ for −126 ≤ n ≤ 127 */
INLINE float power_of_two(int n) {
  union {
    uint32_t bits;
    float value;
  } two = {((uint32_t)n + 127) << 23}; /* n of NaN is any number: unsigned, for it overflows */
  return two.value;
}

INLINE real exponential(real x) {
  x = x < -104 ? -104 : x; /* NaN stays NaN */
  x = x > 89 ? 89 : x;
  float n, q = exponential_rest(x, &n);
  int half = (int)n >> 1; /* in two steps: 2ⁿ itself may overflow or lose its bits */
  return (1 + q) * power_of_two(half) * power_of_two((int)n - half);
}

/* eˣ − 1 for x ≤ 88 */
INLINE real exponential_minus_1(real x) {
  x = x < -87 ? -87 : x;
  x = x > 88 ? 88 : x;
  float n, q = exponential_rest(x, &n), two = power_of_two((int)n);
  return two * q + (two - 1);
}

/* ln(1 + e) for 0 ≤ e ≤ 1: 2 artanh(e / (2 + e)) by its series, whose argument is at most 1/3 */
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
#else
INLINE real logarithm_plus_1(real e) { return log1p(e); }
INLINE real exponential(real x) { return exp(x); }
INLINE real exponential_minus_1(real x) { return expm1(x); }
#endif

/* 1 / (1 + e⁻ˣ); no overflow for any x */
INLINE real logistic(real x) {
  real e = exponential(x < 0 ? x : -x);
  return (x < 0 ? e : 1) / (1 + e);
}
