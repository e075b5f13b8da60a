/* Zeros around a plane, or a part of it. */
#include "kernel.h"

/* y (planes, oh, ow) = x (planes, h, w) moved down by top and right by left, zeros elsewhere */
KERNEL pad2d(const real *x, real *y, i64 planes, i64 h, i64 w, i64 oh, i64 ow, i64 top, i64 left) {
    STRIDED(i, planes * oh * ow) {
        i64 iy = i / ow % oh - top, ix = i % ow - left;
        bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
        y[i] = inside ? x[(i / (oh * ow) * h + iy) * w + ix] : 0;
    }
}
