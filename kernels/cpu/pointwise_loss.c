/* Losses of one output and one target each, see kernels/reference/pointwise_loss.py. */
#include "exponential.h"

enum { MSE, L1, SMOOTH_L1, HUBER, BCE, BCE_LOGITS, KL, KL_LOG }; /* the order of KINDS */

INLINE real logarithm(real x) { return sizeof(real) == 4 ? logf(x) : log(x); }
INLINE real logarithm_of_rest(real x) { return sizeof(real) == 4 ? log1pf(-x) : log1p(-x); }
INLINE real at_least(real x, real least) { return x < least ? least : x; }

/* Inlined where kind is a constant. */
INLINE real loss_of(const i64 kind, real x, real t, real option) {
  const real d = x - t, size = d < 0 ? -d : d;
  switch (kind) {
    case MSE: return d * d;
    case L1: return size;
    case SMOOTH_L1: return size < option ? d * d / (2 * option) : size - option / 2;
    case HUBER: return size < option ? d * d / 2 : option * (size - option / 2);
    case BCE:
      return -t * at_least(logarithm(x), -100) - (1 - t) * at_least(logarithm_of_rest(x), -100);
    case BCE_LOGITS:
      return (x < 0 ? 0 : x) - x * t + logarithm_plus_1(exponential(x < 0 ? x : -x));
    case KL: return t == 0 ? 0 : t * (logarithm(t) - x);
    default: return exponential(t) * (t - x);
  }
}

INLINE real loss_slope(const i64 kind, real x, real t, real option) {
  const real d = x - t, size = d < 0 ? -d : d, sign = d > 0 ? 1 : d < 0 ? -1 : d;
  switch (kind) {
    case MSE: return 2 * d;
    case L1: return sign;
    case SMOOTH_L1: return size < option ? d / option : sign;
    case HUBER: return size < option ? d : option * sign;
    case BCE: return d / at_least(x * (1 - x), 1e-12);
    case BCE_LOGITS: return logistic(x) - t;
    case KL: return -t;
    default: return -exponential(t);
  }
}

#define EACH_KIND                                                                     \
  switch (kind) {                                                                     \
    CASE(MSE) CASE(L1) CASE(SMOOTH_L1) CASE(HUBER) CASE(BCE) CASE(BCE_LOGITS) CASE(KL) \
    CASE(KL_LOG)                                                                      \
  }

void KERNEL(pointwise_losses)(const real *x, const real *target, real *y, i64 n, i64 kind,
                              double option_) {
  const real option = option_;
#define CASE(k)                                                             \
  case k:                                                                   \
    _Pragma("omp parallel for simd if (parallel : n > PARALLEL_ABOVE)")     \
    for (i64 i = 0; i < n; i++) y[i] = loss_of(k, x[i], target[i], option); \
    return;
  EACH_KIND
#undef CASE
}

/* dx = scale · slope */
void KERNEL(pointwise_loss_backward)(const real *x, const real *target, real *dx, i64 n, i64 kind,
                                     double option_, double scale_) {
  const real option = option_, scale = scale_;
#define CASE(k)                                                                         \
  case k:                                                                               \
    _Pragma("omp parallel for simd if (parallel : n > PARALLEL_ABOVE)")                 \
    for (i64 i = 0; i < n; i++) dx[i] = scale * loss_slope(k, x[i], target[i], option); \
    return;
  EACH_KIND
#undef CASE
}

INLINE real loss_sum(const i64 kind, const real *x, const real *target, real option, i64 n) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (i64 i = 0; i < n; i++) sum += loss_of(kind, x[i], target[i], option);
  return sum;
}

/* sums[j] = Σ losses over the j-th `size` elements */
void KERNEL(pointwise_loss)(const real *x, const real *target, real *sums, i64 n, i64 size,
                            i64 kind, double option) {
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 start = 0; start < n; start += size) {
    const i64 count = min_i64(size, n - start);
#define CASE(k) \
  case k: sums[start / size] = loss_sum(k, x + start, target + start, option, count); break;
    EACH_KIND
#undef CASE
  }
}
#undef EACH_KIND
