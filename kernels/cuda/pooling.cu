/* Pooling over windows of a plane; x is (planes, h, w), y (planes, oh, ow). */
#include "kernel.h"

/* The first and the one after the last window that hold position i, out of `count`. */
__device__ inline i64 first_window(i64 i, i64 size, i64 stride, i64 pad) {
    i64 over = i + pad - size;
    return over < 0 ? 0 : over / stride + 1;
}

__device__ inline i64 end_window(i64 i, i64 stride, i64 pad, i64 count) {
    i64 end = (i + pad) / stride + 1;
    return end < count ? end : count;
}

__device__ inline i64 least(i64 a, i64 b) { return a < b ? a : b; }
__device__ inline i64 greatest(i64 a, i64 b) { return a > b ? a : b; }

/* The greatest and its position in the plane, the first of equals; NaN is the greatest. index may
   be NULL. */
KERNEL max_pool2d(const real *x, real *y, int *index, i64 planes, i64 h, i64 w, i64 oh, i64 ow,
                  i64 size_h, i64 size_w, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                  i64 dilation_h, i64 dilation_w) {
    u32 lanes = LANES(oh * ow);
    ROWS(number, planes, lanes) {
        const real *plane = x + number * h * w;
        LANE(i, oh * ow, lanes) {
            int top = (int)i / (int)ow * (int)stride_h - (int)pad_h;
            int left = (int)i % (int)ow * (int)stride_w - (int)pad_w, best = -1;
            real most = -INFINITY;
            for (int py = 0; py < size_h; py++)
                for (int px = 0; px < size_w; px++) {
                    int iy = top + py * (int)dilation_h, ix = left + px * (int)dilation_w;
                    if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                    real value = plane[iy * (int)w + ix];
                    bool greater = best < 0 || value > most || (isnan(value) && !isnan(most));
                    if (greater) most = value, best = iy * (int)w + ix;
                }
            y[number * oh * ow + i] = most;
            if (index) index[number * oh * ow + i] = best;
        }
    }
}

/* dx = Σ dy over the windows whose greatest this is. A block takes one plane, a thread a row of it
   at a time: of the rows of windows it reads those of which some greatest lies as far down. */
KERNEL max_pool2d_backward(const real *dy, const int *index, real *dx, i64 planes, i64 h, i64 w,
                           i64 oh, i64 ow) {
    SHARED int first[BLOCK];
    SHARED int last[BLOCK];
    BLOCKS(plane, planes) {
        real *out = dx + plane * h * w;
        THREADS(i, h * w) out[i] = 0;
        for (i64 from = 0; from < oh; from += BLOCK) {
            int count = (int)least(oh - from, BLOCK);
            const int *indices = index + (plane * oh + from) * ow;
            const real *values = dy + (plane * oh + from) * ow;
            BARRIER;
            THREADS(row, count) {
                int low = (int)(h * w), high = -1;
                for (int i = 0; i < ow; i++) {
                    int at = indices[row * ow + i];
                    low = at >= 0 && at < low ? at : low;
                    high = at > high ? at : high;
                }
                first[row] = low / (int)w;
                last[row] = high < 0 ? -1 : high / (int)w;
            }
            BARRIER;
            THREADS(y, h)
                for (int row = 0; row < count; row++) {
                    if (first[row] > y || last[row] < y) continue;
                    for (int i = 0; i < ow; i++) {
                        i64 at = indices[row * ow + i];
                        if (at >= y * w && at < (y + 1) * w) out[at] += values[row * ow + i];
                    }
                }
        }
        BARRIER;
    }
}

/* The number that a window's sum is divided by: its part in the image, or in the padded image. */
__device__ inline real divisor(i64 top, i64 left, i64 h, i64 w, i64 size_h, i64 size_w, i64 pad_h,
                               i64 pad_w, i64 count_padding) {
    i64 bottom = least(top + size_h, h + pad_h), right = least(left + size_w, w + pad_w);
    if (!count_padding) {
        top = greatest(top, 0);
        left = greatest(left, 0);
        bottom = least(bottom, h);
        right = least(right, w);
    }
    return (real)((bottom - top) * (right - left));
}

KERNEL avg_pool2d(const real *x, real *y, i64 planes, i64 h, i64 w, i64 oh, i64 ow, i64 size_h,
                  i64 size_w, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                  i64 count_padding) {
    STRIDED(i, planes * oh * ow) {
        const real *plane = x + i / (oh * ow) * h * w;
        i64 top = i / ow % oh * stride_h - pad_h, left = i % ow * stride_w - pad_w;
        real sum = 0;
        for (i64 iy = greatest(top, 0); iy < least(top + size_h, h); iy++)
            for (i64 ix = greatest(left, 0); ix < least(left + size_w, w); ix++)
                sum += plane[iy * w + ix];
        y[i] = sum / divisor(top, left, h, w, size_h, size_w, pad_h, pad_w, count_padding);
    }
}

KERNEL avg_pool2d_backward(const real *dy, real *dx, i64 planes, i64 h, i64 w, i64 oh, i64 ow,
                           i64 size_h, i64 size_w, i64 stride_h, i64 stride_w, i64 pad_h,
                           i64 pad_w, i64 count_padding) {
    STRIDED(i, planes * h * w) {
        const real *plane = dy + i / (h * w) * oh * ow;
        i64 iy = i / w % h, ix = i % w;
        real sum = 0;
        for (i64 oy = first_window(iy, size_h, stride_h, pad_h);
             oy < end_window(iy, stride_h, pad_h, oh); oy++)
            for (i64 ox = first_window(ix, size_w, stride_w, pad_w);
                 ox < end_window(ix, stride_w, pad_w, ow); ox++)
                sum += plane[oy * ow + ox] / divisor(oy * stride_h - pad_h, ox * stride_w - pad_w,
                                                     h, w, size_h, size_w, pad_h, pad_w,
                                                     count_padding);
        dx[i] = sum;
    }
}

/* Window i of `count` over `size` positions is [i size / count, ceil((i + 1) size / count)). */
__device__ inline i64 start(i64 i, i64 size, i64 count) { return i * size / count; }
__device__ inline i64 stop(i64 i, i64 size, i64 count) {
    return ((i + 1) * size + count - 1) / count;
}

KERNEL adaptive_avg_pool2d(const real *x, real *y, i64 planes, i64 h, i64 w, i64 oh, i64 ow) {
    STRIDED(i, planes * oh * ow) {
        const real *plane = x + i / (oh * ow) * h * w;
        i64 oy = i / ow % oh, ox = i % ow;
        i64 top = start(oy, h, oh), bottom = stop(oy, h, oh);
        i64 left = start(ox, w, ow), right = stop(ox, w, ow);
        real sum = 0;
        for (i64 iy = top; iy < bottom; iy++)
            for (i64 ix = left; ix < right; ix++) sum += plane[iy * w + ix];
        y[i] = sum / ((bottom - top) * (right - left));
    }
}

/* The windows that hold position i are, with sizes exchanged, window i over the windows. */
KERNEL adaptive_avg_pool2d_backward(const real *dy, real *dx, i64 planes, i64 h, i64 w, i64 oh,
                                    i64 ow) {
    STRIDED(i, planes * h * w) {
        const real *plane = dy + i / (h * w) * oh * ow;
        i64 iy = i / w % h, ix = i % w;
        real sum = 0;
        for (i64 oy = start(iy, oh, h); oy < stop(iy, oh, h); oy++)
            for (i64 ox = start(ix, ow, w); ox < stop(ix, ow, w); ox++)
                sum += plane[oy * ow + ox] / ((stop(oy, h, oh) - start(oy, h, oh)) *
                                              (stop(ox, w, ow) - start(ox, w, ow)));
        dx[i] = sum;
    }
}
