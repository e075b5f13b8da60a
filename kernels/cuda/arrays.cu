/* Strided copies, sums and casts. A strided array of up to six dimensions is its shape (s0 is the
   outermost) and one stride in elements for each of x (a) and y (b). */
#include "kernel.h"

#define PLAN                                                                                      \
    const i64 shape[6] = {s0, s1, s2, s3, s4, s5};                                                \
    const i64 from[6] = {a0, a1, a2, a3, a4, a5};                                                 \
    const i64 to[6] = {b0, b1, b2, b3, b4, b5};

#define PLACE(i)                                                                                  \
    i64 a = 0, b = 0, rest = (i);                                                                 \
    for (int d = 5; d >= first; d--) {                                                            \
        i64 at = d == first ? rest : rest % shape[d];                                             \
        if (d > first) rest /= shape[d];                                                          \
        a += at * from[d];                                                                        \
        b += at * to[d];                                                                          \
    }

/* y = x, elements of `size` bytes */
KERNEL assign(const void *x, void *y, i64 size, i64 n, i64 first, i64 s0, i64 s1, i64 s2, i64 s3,
              i64 s4, i64 s5, i64 a0, i64 a1, i64 a2, i64 a3, i64 a4, i64 a5, i64 b0, i64 b1,
              i64 b2, i64 b3, i64 b4, i64 b5) {
    PLAN
    STRIDED(i, n) {
        PLACE(i)
        switch (size) {
            case 1: ((char *)y)[b] = ((const char *)x)[a]; break;
            case 2: ((short *)y)[b] = ((const short *)x)[a]; break;
            case 4: ((int *)y)[b] = ((const int *)x)[a]; break;
            case 8: ((i64 *)y)[b] = ((const i64 *)x)[a]; break;
        }
    }
}

/* y += x */
KERNEL accumulate(const real *x, real *y, i64 n, i64 first, i64 s0, i64 s1, i64 s2, i64 s3,
                  i64 s4, i64 s5, i64 a0, i64 a1, i64 a2, i64 a3, i64 a4, i64 a5, i64 b0, i64 b1,
                  i64 b2, i64 b3, i64 b4, i64 b5) {
    PLAN
    STRIDED(i, n) {
        PLACE(i)
        y[b] += x[a];
    }
}

template <typename T>
__device__ inline void store(T value, void *y, i64 to, i64 i) {
    switch (to) {
        case 0: ((float *)y)[i] = (float)value; break;
        case 1: ((double *)y)[i] = (double)value; break;
        case 2: ((int *)y)[i] = (int)value; break;
        case 3: ((i64 *)y)[i] = (i64)value; break;
        case 4: ((unsigned char *)y)[i] = (unsigned char)value; break;
    }
}

/* y = x in another dtype; the codes are those of `store` */
KERNEL cast(const void *x, i64 from, void *y, i64 to, i64 n) {
    STRIDED(i, n) {
        switch (from) {
            case 0: store(((const float *)x)[i], y, to, i); break;
            case 1: store(((const double *)x)[i], y, to, i); break;
            case 2: store(((const int *)x)[i], y, to, i); break;
            case 3: store(((const i64 *)x)[i], y, to, i); break;
            case 4: store(((const unsigned char *)x)[i], y, to, i); break;
        }
    }
}
