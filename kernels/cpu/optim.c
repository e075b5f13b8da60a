/* Steps of optimisers, in place. */

/* d = dw + decay w; v = momentum v + damp d, at the first step d; w −= rate v, with nesterov
   rate (d + momentum v). v may be null: w −= rate d. */
void KERNEL(sgd_step)(real *w, const real *dw, real *v, i64 n, double lr, double momentum_,
                      double damp_, double weight_decay, i64 nesterov, i64 first) {
  const real rate = lr, momentum = momentum_, damp = damp_, decay = weight_decay;
  if (!v) {
#pragma omp parallel for simd if (n > PARALLEL_ABOVE)
    for (i64 i = 0; i < n; i++) w[i] -= rate * (dw[i] + decay * w[i]);
    return;
  }
  const real keep = first ? 0 : momentum, take = first ? 1 : damp;
  const real from_d = nesterov ? 1 : 0, from_v = nesterov ? momentum : 1;
#pragma omp parallel for simd if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real d = dw[i] + decay * w[i];
    v[i] = keep * v[i] + take * d;
    w[i] -= rate * (from_d * d + from_v * v[i]);
  }
}

/* m and v move by 1 − beta towards d and d²; w = keep w − rate m / (√v / root + eps) */
void KERNEL(adam_step)(real *w, const real *dw, real *m, real *v, i64 n, double move1,
                       double move2, double rate_, double root_, double eps_, double decay_,
                       double keep_) {
  const real first = move1, second = move2, rate = rate_, root = root_, eps = eps_;
  const real decay = decay_, keep = keep_;
#pragma omp parallel for simd if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < n; i++) {
    real d = dw[i] + decay * w[i];
    m[i] += first * (d - m[i]);
    v[i] += second * (d * d - v[i]);
    real size = sizeof(real) == 4 ? sqrtf(v[i]) : sqrt(v[i]);
    w[i] = keep * w[i] - rate * m[i] / (size / root + eps);
  }
}
