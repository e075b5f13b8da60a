/* The one-dimensional transforms of Winograd's convolutions F(m, 3), on vectors of channels.

   With n = m + 2 points 0, ±1, ±2, ±1/2, ∞ (as many as needed), three taps g and n inputs d, the m
   results are Aᵀ((G g) ⊙ (Bᵀ d)): n products for 3 m. Applied to rows and columns in turn they
   give F(m x m, 3 x 3). The transposes of the three serve the gradients.
   F(7, 3) has 0, ±1, ±1/2, ±4, ±3/2 instead: of the sets of small fractions one with small errors.
   Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015. */
#pragma once

enum { MOST_POINTS = 9, MOST_RESULTS = 7 };

enum { PAIRS = 4 };
static const double PAIR[PAIRS] = {1, 0.5, 4, 1.5}; /* a of the points a and -a of F(7, 3) */

/* The coefficients of Π (z - a²), from that of 1 to that of the highest power of z, over all pairs
   but one (of all: but = PAIRS). */
INLINE void others(const int but, double *to) {
  to[0] = 1;
  int degree = 0;
#pragma GCC unroll 4
  for (int p = 0; p < PAIRS; p++) {
    if (p == but) continue;
    to[degree + 1] = to[degree];
#pragma GCC unroll 4
    for (int i = degree; i > 0; i--) to[i] = to[i - 1] - PAIR[p] * PAIR[p] * to[i];
    to[0] *= -PAIR[p] * PAIR[p];
    degree++;
  }
}

/* What the i-th result has of the sums, or differences, of a pair's products, or of that of 0
   (PAIRS): the i-th power of the point, over the product of its distances from the others. */
INLINE real share(const int pair, const int i) {
  double c[PAIRS + 1], value = 0, a = pair < PAIRS ? PAIR[pair] : 0;
  others(pair, c);
#pragma GCC unroll 4
  for (int j = PAIRS - 1; j >= 0; j--) value = value * a * a + c[j];
  double result = 1 / (pair < PAIRS ? 2 * a * a * value : c[0]);
#pragma GCC unroll 7
  for (int j = 0; j < i; j++) result *= a;
  return (real)result;
}

/* to[0] and to[step]: what the taps g are at the points of a pair */
INLINE void pair_of_taps(const int pair, const vec *g, const int apart, vec *to, const int step) {
  const double a = PAIR[pair];
  vec even = g[0] + (real)(a * a) * g[2 * apart];
  to[0] = even + (real)a * g[apart];
  to[step] = even - (real)a * g[apart];
}

/* to[i * step] = (Bᵀ d)[i] */
INLINE void points_of_input(const int m, const vec *d, const int apart, vec *to, const int step) {
#define D(i) d[(i) * apart]
#define TO(i) to[(i) * step]
  if (m == 2) {
    TO(0) = D(0) - D(2);
    TO(1) = D(1) + D(2);
    TO(2) = D(2) - D(1);
    TO(3) = D(1) - D(3);
  } else if (m == 4) {
    vec even = D(4) - 4 * D(2), odd = D(3) - 4 * D(1);
    vec inner = D(4) - D(2), skew = 2 * (D(3) - D(1));
    TO(0) = 4 * D(0) - 5 * D(2) + D(4);
    TO(1) = even + odd;
    TO(2) = even - odd;
    TO(3) = inner + skew;
    TO(4) = inner - skew;
    TO(5) = 4 * D(1) - 5 * D(3) + D(5);
  } else if (m == 7) {
    double c[PAIRS + 1];
    others(PAIRS, c);
    TO(0) = D(8) + (real)c[3] * D(6) + (real)c[2] * D(4) + (real)c[1] * D(2) + (real)c[0] * D(0);
#pragma GCC unroll 4
    for (int p = 0; p < PAIRS; p++) {
      others(p, c);
      vec even = D(8) + (real)c[2] * D(6) + (real)c[1] * D(4) + (real)c[0] * D(2);
      vec odd = D(7) + (real)c[2] * D(5) + (real)c[1] * D(3) + (real)c[0] * D(1);
      TO(2 * p + 1) = even + (real)PAIR[p] * odd;
      TO(2 * p + 2) = even - (real)PAIR[p] * odd;
    }
  } else {
    const real a = 5.25, b = 4.25;
    TO(0) = a * (D(4) - D(2)) + (D(0) - D(6));
    TO(7) = a * (D(3) - D(5)) + (D(7) - D(1));
    vec even = (D(2) + D(6)) - b * D(4), odd = (D(1) + D(5)) - b * D(3);
    TO(1) = even + odd;
    TO(2) = even - odd;
    even = D(6) - (real)1.25 * D(4) + (real)0.25 * D(2);
    odd = 2 * D(5) - (real)2.5 * D(3) + (real)0.5 * D(1);
    TO(3) = even + odd;
    TO(4) = even - odd;
    even = D(6) - 5 * D(4) + 4 * D(2);
    odd = (real)0.5 * D(5) - (real)2.5 * D(3) + 2 * D(1);
    TO(5) = even + odd;
    TO(6) = even - odd;
  }
#undef D
#undef TO
}

/* to[i * step] = (Aᵀ s)[i] */
INLINE void results_of_points(const int m, const vec *s, const int apart, vec *to,
                              const int step) {
#define S(i) s[(i) * apart]
#define TO(i) to[(i) * step]
  if (m == 2) {
    TO(0) = S(0) + (S(1) + S(2));
    TO(1) = (S(1) - S(2)) - S(3);
    return;
  }
  if (m == 7) {
    vec both[2][PAIRS]; /* sums and differences */
#pragma GCC unroll 4
    for (int p = 0; p < PAIRS; p++) {
      both[0][p] = S(2 * p + 1) + S(2 * p + 2);
      both[1][p] = S(2 * p + 1) - S(2 * p + 2);
    }
#pragma GCC unroll 7
    for (int i = 0; i < 7; i++) {
      vec result = share(0, i) * both[i % 2][0];
      OPAQUE_VECTOR(result); /* rounded by itself, wherever this is inlined */
#pragma GCC unroll 4
      for (int p = 1; p < PAIRS; p++) result += share(p, i) * both[i % 2][p];
      if (i == 0) result += share(PAIRS, 0) * S(0);
      TO(i) = result;
    }
    return;
  }
  vec a = S(1) + S(2), b = S(1) - S(2), c = S(3) + S(4), d = S(3) - S(4);
  if (m == 4) {
    TO(0) = S(0) + (a + c);
    TO(1) = b + 2 * d;
    TO(2) = a + 4 * c;
    TO(3) = S(5) + (b + 8 * d);
  } else {
    vec e = S(5) + S(6), f = S(5) - S(6);
    TO(0) = (S(0) + a) + (c + e);
    TO(1) = b + 2 * d + (real)0.5 * f;
    TO(2) = a + 4 * c + (real)0.25 * e;
    TO(3) = b + 8 * d + (real)0.125 * f;
    TO(4) = a + 16 * c + (real)0.0625 * e;
    TO(5) = S(7) + (b + 32 * d + (real)0.03125 * f);
  }
#undef S
#undef TO
}

/* to[i * step] = (G g)[i] */
INLINE void points_of_taps(const int m, const vec *g, const int apart, vec *to, const int step) {
  vec first = g[0], middle = g[apart], last = g[2 * apart], ends = first + last;
#define TO(i) to[(i) * step]
  if (m == 2) {
    TO(0) = first;
    TO(1) = (real)0.5 * (ends + middle);
    TO(2) = (real)0.5 * (ends - middle);
    TO(3) = last;
  } else if (m == 4) {
    vec wide = first + 4 * last;
    const real sixth = (real)1 / 6;
    TO(0) = (real)0.25 * first;
    TO(1) = -sixth * (ends + middle);
    TO(2) = sixth * (middle - ends);
    TO(3) = (real)0.25 * sixth * (wide + 2 * middle);
    TO(4) = (real)0.25 * sixth * (wide - 2 * middle);
    TO(5) = last;
  } else if (m == 7) {
    TO(0) = first;
#pragma GCC unroll 4
    for (int p = 0; p < PAIRS; p++) pair_of_taps(p, g, apart, to + (2 * p + 1) * step, step);
  } else {
    vec wide = first + 4 * last, narrow = 4 * first + last;
    TO(0) = first;
    const real p = (real)2 / 9, q = (real)1 / 90;
    TO(1) = -p * (ends + middle);
    TO(2) = p * (middle - ends);
    TO(3) = q * (wide + 2 * middle);
    TO(4) = q * (wide - 2 * middle);
    TO(5) = 16 * q * (narrow + 2 * middle);
    TO(6) = 16 * q * (narrow - 2 * middle);
    TO(7) = last;
  }
#undef TO
}

/* to[i * step] = (A d)[i]: the points of m results' gradients */
INLINE void points_of_results(const int m, const vec *d, const int apart, vec *to,
                              const int step) {
#define D(i) d[(i) * apart]
#define TO(i) to[(i) * step]
  if (m == 2) {
    TO(0) = D(0);
    TO(1) = D(0) + D(1);
    TO(2) = D(0) - D(1);
    TO(3) = -D(1);
  } else if (m == 4) {
    vec even = D(0) + D(2), odd = D(1) + D(3);
    TO(0) = D(0);
    TO(1) = even + odd;
    TO(2) = even - odd;
    even = D(0) + 4 * D(2), odd = 2 * D(1) + 8 * D(3);
    TO(3) = even + odd;
    TO(4) = even - odd;
    TO(5) = D(3);
  } else if (m == 7) {
    TO(0) = share(PAIRS, 0) * D(0);
#pragma GCC unroll 4
    for (int p = 0; p < PAIRS; p++) {
      vec even = share(p, 0) * D(0) + share(p, 2) * D(2) + share(p, 4) * D(4) + share(p, 6) * D(6);
      vec odd = share(p, 1) * D(1) + share(p, 3) * D(3) + share(p, 5) * D(5);
      TO(2 * p + 1) = even + odd;
      TO(2 * p + 2) = even - odd;
    }
  } else {
    vec even = D(0) + D(2) + D(4), odd = D(1) + D(3) + D(5);
    TO(0) = D(0);
    TO(1) = even + odd;
    TO(2) = even - odd;
    even = D(0) + 4 * D(2) + 16 * D(4), odd = 2 * D(1) + 8 * D(3) + 32 * D(5);
    TO(3) = even + odd;
    TO(4) = even - odd;
    even = D(0) + (real)0.25 * D(2) + (real)0.0625 * D(4);
    odd = (real)0.5 * D(1) + (real)0.125 * D(3) + (real)0.03125 * D(5);
    TO(5) = even + odd;
    TO(6) = even - odd;
    TO(7) = D(5);
  }
#undef D
#undef TO
}

/* to[i * step] = (Gᵀ u)[i]: the three taps' gradients from those of the points */
INLINE void taps_of_points(const int m, const vec *u, const int apart, vec *to, const int step) {
#define U(i) u[(i) * apart]
  if (m == 7) {
    to[0] = U(0);
    to[step] = to[2 * step] = (vec){0};
#pragma GCC unroll 4
    for (int p = 0; p < PAIRS; p++) {
      const double a = PAIR[p];
      vec sum = U(2 * p + 1) + U(2 * p + 2), difference = U(2 * p + 1) - U(2 * p + 2);
      to[0] += sum;
      to[step] += (real)a * difference;
      to[2 * step] += (real)(a * a) * sum;
    }
    return;
  }
  vec a = U(1) + U(2), b = U(1) - U(2);
  if (m == 2) {
    to[0] = U(0) + (real)0.5 * a;
    to[step] = (real)0.5 * b;
    to[2 * step] = (real)0.5 * a + U(3);
    return;
  }
  vec c = U(3) + U(4), d = U(3) - U(4);
  if (m == 4) {
    const real sixth = (real)1 / 6;
    to[0] = (real)0.25 * (U(0) + sixth * c) - sixth * a;
    to[step] = sixth * ((real)0.5 * d - b);
    to[2 * step] = sixth * (c - a) + U(5);
  } else {
    vec e = U(5) + U(6), f = U(5) - U(6);
    const real p = (real)2 / 9, q = (real)1 / 90;
    to[0] = U(0) - p * a + q * (c + 64 * e);
    to[step] = 2 * q * (d + 16 * f) - p * b;
    to[2 * step] = 4 * q * (c + 4 * e) - p * a + U(7);
  }
#undef U
}
