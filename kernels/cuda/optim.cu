/* Steps of optimisers, in place. */
#include "kernel.h"

/* v = momentum v + damp d, d = dw + weight_decay w (v = d at the first step); w -= lr v, or with
   nesterov lr (d + momentum v); v null: w -= lr d */
KERNEL sgd_step(real *w, const real *dw, real *v, i64 n, real lr, real momentum, real damp,
                real weight_decay, i64 nesterov, i64 first) {
    STRIDED(i, n) {
        real d = dw[i] + weight_decay * w[i];
        if (v) {
            v[i] = first ? d : momentum * v[i] + damp * d;
            d = nesterov ? d + momentum * v[i] : v[i];
        }
        w[i] -= lr * d;
    }
}

/* m and v move by 1 - beta towards d and d²; w = keep w - rate m / (√v / root + eps) */
KERNEL adam_step(real *w, const real *dw, real *m, real *v, i64 n, real move1, real move2,
                 real rate, real root, real eps, real weight_decay, real keep) {
    STRIDED(i, n) {
        real d = dw[i] + weight_decay * w[i];
        m[i] += move1 * (d - m[i]);
        v[i] += move2 * (d * d - v[i]);
        w[i] = keep * w[i] - rate * m[i] / (sqrt(v[i]) / root + eps);
    }
}
