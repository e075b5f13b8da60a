/* Volumes as images, each with the frames that a filter's depth sees as its channels. */
#include "kernel.h"

/* x (n, c, depth, plane) -> y (n, count, c, taps, plane) of `size` elements */
KERNEL frames(const real *x, real *y, i64 size, i64 c, i64 depth, i64 plane, i64 count, i64 taps,
              i64 stride, i64 padding, i64 dilation) {
    STRIDED(j, size) {
        i64 pixel = j % plane, t = j / plane % taps, k = j / plane / taps % c;
        i64 i = j / plane / taps / c % count, sample = j / plane / taps / c / count;
        i64 z = i * stride + t * dilation - padding;
        y[j] = z < 0 || z >= depth ? 0 : x[((sample * c + k) * depth + z) * plane + pixel];
    }
}

/* The transpose, + b: gathers for each element of x (n, c, depth, plane) */
KERNEL frames_sum(const real *y, const real *b, real *x, i64 size, i64 c, i64 depth, i64 plane,
                  i64 count, i64 taps, i64 stride, i64 padding, i64 dilation) {
    STRIDED(j, size) {
        i64 pixel = j % plane, z = j / plane % depth, k = j / plane / depth % c;
        i64 sample = j / plane / depth / c;
        real sum = b ? b[k] : 0;
        for (i64 t = 0; t < taps; t++) {
            i64 i = z + padding - t * dilation;
            if (i >= 0 && i % stride == 0 && i / stride < count)
                sum += y[(((sample * count + i / stride) * c + k) * taps + t) * plane + pixel];
        }
        x[j] = sum;
    }
}
