/* Functions of one value by their kind, see kernels/reference/transfer.py. Without branches, so that
   the compiler makes vectors of the loops; x is held where its factor is 0 already, as there. */
#include "exponential.h"

enum { /* the order of KINDS */
  GELU, GELU_TANH, SILU, MISH, HARDSIGMOID, HARDSWISH, SOFTSIGN, LOG_SIGMOID, TANHSHRINK, SOFTSHRINK,
  HARDSHRINK, THRESHOLD, CELU, SELU
};

INLINE real not_below(real x, real least) { return x < least ? least : x; } /* NaN stays NaN */
INLINE real held(real x, real low, real high) {
  real v = not_below(x, low);
  return v > high ? high : v;
}

/* Φ(−x) for x ≥ 0, e = e^(−x²/2). float: e (1/2 − x G(x)), G a quotient of minimax polynomials
   fitted for this file, which is off by 3e-10; so written, little is rounded where x is small */
INLINE real normal_tail(real x, real e) {
#if REAL_IS_FLOAT
  x = x > 100 ? 100 : x;
  float above = 1.244047325e-2f, below = 2.488094650e-2f;
  above = above * x + 9.744400568e-2f;
  above = above * x + 3.055303715e-1f;
  above = above * x + 3.989422612e-1f;
  below = below * x + 2.146743664e-1f;
  below = below * x + 7.835540195e-1f;
  below = below * x + 1.392507136e+0f;
  below = below * x + 1;
  return e * (0.5f - x * (above / below));
#else
  (void)e;
  return 0.5 * erfc(x * 0.70710678118654752);
#endif
}

/* Φ(x), e = e^(−x²/2) */
INLINE real normal_distribution(real x, real e) {
  real below = normal_tail(magnitude(x), e);
  return x < 0 ? below : 1 - below;
}

/* 2u = √(8/π) (x + 0.044715 x³) */
INLINE real gelu_cubic(real x) {
  return (real)1.5957691216057308 * x * (1 + (real)0.044715 * x * x);
}

/* σ' = e⁻ˣ / (1 + e⁻ˣ)² */
INLINE real logistic_slope(real x) {
  real e = falling_exponential(-magnitude(x));
  return e / ((1 + e) * (1 + e));
}

/* tanh ln(1 + eˣ) = (e²ˣ + 2eˣ) / (e²ˣ + 2eˣ + 2), for x > 0 with both sides divided by e²ˣ */
INLINE real mish_factor(real x) {
  real e = falling_exponential(-magnitude(x));
  real below = e * (e + 2), above = 1 + 2 * e;
  return x > 0 ? above / (above + 2 * e * e) : below / (below + 2);
}

/* The slope of that factor, 4eˣ (1 + eˣ) / (e²ˣ + 2eˣ + 2)², likewise */
INLINE real mish_factor_slope(real x) {
  real e = falling_exponential(-magnitude(x));
  real d = x > 0 ? 1 + 2 * e + 2 * e * e : e * (e + 2) + 2;
  return 4 * e * (1 + e) * (x > 0 ? e : 1) / (d * d);
}

INLINE real hard_sigmoid(real x) { return held(x + 3, 0, 6) * (real)(1.0 / 6); }

/* Inlined where kind is a constant. */
INLINE real transfer_of(const i64 kind, real x, real a, real b) {
  switch (kind) {
    case GELU: {
      real v = not_below(x, -100);
      return v * normal_distribution(v, falling_exponential(v * v / -2));
    }
    case GELU_TANH: return not_below(x, -100) * logistic(gelu_cubic(held(x, -100, 100)));
    case SILU: return not_below(x, -1e4) * logistic(x);
    case MISH: return not_below(x, -1e4) * mish_factor(x);
    case HARDSIGMOID: return hard_sigmoid(x);
    case HARDSWISH: return not_below(x, -3) * hard_sigmoid(x);
    case SOFTSIGN: x = held(x, -1e30, 1e30); return x / (1 + magnitude(x)); /* ∞ / ∞ is none */
    case LOG_SIGMOID: return (x > 0 ? 0 : x) - logarithm_plus_1(falling_exponential(-magnitude(x)));
    case TANHSHRINK: return x - hyperbolic_tangent(x);
    case SOFTSHRINK: return x - held(x, -a, a);
    case HARDSHRINK: return magnitude(x) <= a ? 0 : x;
    case THRESHOLD: return x <= a ? b : x;
    case CELU: return x > 0 ? x : a * exponential_minus_1(held((x > 0 ? 0 : x) / a, -88, 88));
    default: return b * (x > 0 ? x : a * exponential_minus_1(x > 0 ? 0 : x));
  }
}

INLINE real transfer_slope(const i64 kind, real x, real a, real b) {
  const real v = held(x, -1e4, 1e4), w = held(x, -100, 100);
  switch (kind) {
    case GELU: {
      real e = falling_exponential(w * w / -2);
      return normal_distribution(w, e) + (real)0.39894228040143268 * w * e;
    }
    case GELU_TANH: {
      real rise = (real)1.5957691216057308 * (1 + (real)(3 * 0.044715) * w * w);
      return logistic(gelu_cubic(w)) + w * rise * logistic_slope(gelu_cubic(w));
    }
    case SILU: return logistic(x) + v * logistic_slope(x);
    case MISH: return mish_factor(x) + v * mish_factor_slope(x);
    case HARDSIGMOID: return (x > -3) & (x < 3) ? (real)(1.0 / 6) : 0;
    case HARDSWISH: return x < 3 ? x > -3 ? x * (real)(1.0 / 3) + (real)0.5 : 0 : 1;
    case SOFTSIGN: x = 1 / (1 + magnitude(x)); return x * x;
    case LOG_SIGMOID: return logistic(-x);
    case TANHSHRINK: x = hyperbolic_tangent(x); return x * x;
    case SOFTSHRINK:
    case HARDSHRINK: return magnitude(x) > a ? 1 : 0;
    case THRESHOLD: return x > a ? 1 : 0;
    case CELU: return exponential((x > 0 ? 0 : x) / a);
    default: return b * (x > 0 ? 1 : a * falling_exponential(x > 0 ? 0 : x));
  }
}

#define EACH_KIND                                                                          \
  switch (kind) {                                                                          \
    CASE(GELU) CASE(GELU_TANH) CASE(SILU) CASE(MISH) CASE(HARDSIGMOID) CASE(HARDSWISH)     \
    CASE(SOFTSIGN) CASE(LOG_SIGMOID) CASE(TANHSHRINK) CASE(SOFTSHRINK) CASE(HARDSHRINK)    \
    CASE(THRESHOLD) CASE(CELU) CASE(SELU)                                                  \
  }

void KERNEL(transfer)(const real *x, real *y, i64 kind, double a_, double b_, i64 n) {
  const real a = a_, b = b_;
#define CASE(k)                                                         \
  case k:                                                               \
    _Pragma("omp parallel for simd if (parallel : n > PARALLEL_ABOVE)") \
    for (i64 i = 0; i < n; i++) y[i] = transfer_of(k, x[i], a, b);      \
    return;
  EACH_KIND
#undef CASE
}

void KERNEL(transfer_backward)(const real *x, const real *dy, real *dx, i64 kind, double a_,
                               double b_, i64 n) {
  const real a = a_, b = b_;
#define CASE(k)                                                                \
  case k:                                                                      \
    _Pragma("omp parallel for simd if (parallel : n > PARALLEL_ABOVE)")        \
    for (i64 i = 0; i < n; i++) dx[i] = dy[i] * transfer_slope(k, x[i], a, b); \
    return;
  EACH_KIND
#undef CASE
}
#undef EACH_KIND
