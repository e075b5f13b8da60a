/* Steps of optimisers, in place: all arrays of a network in one call. */

enum { OPTIM_PART = 16384 }; /* so many numbers of a large array in one go */

struct sgd {
  real rate, decay, keep, take, from_d, from_v;
};

/* v may be NULL */
INLINE void sgd_part(real *w, const real *dw, real *v, i64 n, struct sgd s) {
  if (!v) {
#pragma omp simd
    for (i64 i = 0; i < n; i++) w[i] -= s.rate * (dw[i] + s.decay * w[i]);
    return;
  }
#pragma omp simd
  for (i64 i = 0; i < n; i++) {
    real d = dw[i] + s.decay * w[i];
    v[i] = s.keep * v[i] + s.take * d;
    w[i] -= s.rate * (s.from_d * d + s.from_v * v[i]);
  }
}

/* For each array: d = dw + decay w; v = momentum v + damp d, at the first step d; w −= rate v, with
   nesterov rate (d + momentum v). vs may be NULL: w −= rate d. */
void KERNEL(sgd_step)(real **ws, real **dws, real **vs, const i64 *sizes, i64 count, double lr,
                      double momentum, double damp, double weight_decay, i64 nesterov, i64 first) {
  const struct sgd s = {lr, weight_decay, first ? 0 : momentum, first ? 1 : damp,
                        nesterov ? 1 : 0, nesterov ? momentum : 1};
  for (i64 k = 0; k < count; k++) {
    real *w = ws[k], *dw = dws[k], *v = vs ? vs[k] : NULL;
    const i64 n = sizes[k];
    if (n <= OPTIM_PART) {
      sgd_part(w, dw, v, n, s);
      continue;
    }
#pragma omp parallel for
    for (i64 i = 0; i < n; i += OPTIM_PART)
      sgd_part(w + i, dw + i, v ? v + i : NULL, min_i64(n - i, OPTIM_PART), s);
  }
}

struct adam {
  real first, second, rate, root, eps, decay, keep;
};

INLINE void adam_part(real *w, const real *dw, real *m, real *v, i64 n, struct adam s) {
#pragma omp simd
  for (i64 i = 0; i < n; i++) {
    real d = dw[i] + s.decay * w[i];
    m[i] += s.first * (d - m[i]);
    v[i] += s.second * (d * d - v[i]);
    real size = sizeof(real) == 4 ? sqrtf(v[i]) : sqrt(v[i]);
    w[i] = s.keep * w[i] - s.rate * m[i] / (size / s.root + s.eps);
  }
}

/* For each array: m and v move by 1 − beta towards d and d²;
   w = keep w − rate m / (√v / root + eps) */
void KERNEL(adam_step)(real **ws, real **dws, real **ms, real **vs, const i64 *sizes, i64 count,
                       double move1, double move2, double rate, double root, double eps,
                       double decay, double keep) {
  const struct adam s = {move1, move2, rate, root, eps, decay, keep};
  for (i64 k = 0; k < count; k++) {
    real *w = ws[k], *dw = dws[k], *m = ms[k], *v = vs[k];
    const i64 n = sizes[k];
    if (n <= OPTIM_PART) {
      adam_part(w, dw, m, v, n, s);
      continue;
    }
#pragma omp parallel for
    for (i64 i = 0; i < n; i += OPTIM_PART)
      adam_part(w + i, dw + i, m + i, v + i, min_i64(n - i, OPTIM_PART), s);
  }
}
