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

/* The greatest and its position in the plane, the first of equals; NaN is the greatest. */
KERNEL max_pool2d(const real *x, real *y, int *index, i64 planes, i64 h, i64 w, i64 oh, i64 ow,
                  i64 size_h, i64 size_w, i64 stride_h, i64 stride_w, i64 pad_h, i64 pad_w,
                  i64 dilation_h, i64 dilation_w) {
    STRIDED(i, planes * oh * ow) {
        const real *plane = x + i / (oh * ow) * h * w;
        i64 top = i / ow % oh * stride_h - pad_h, left = i % ow * stride_w - pad_w, best = -1;
        for (i64 py = 0; py < size_h; py++)
            for (i64 px = 0; px < size_w; px++) {
                i64 iy = top + py * dilation_h, ix = left + px * dilation_w;
                if (iy < 0 || iy >= h || ix < 0 || ix >= w) continue;
                i64 at = iy * w + ix;
                bool greater = best < 0 || plane[at] > plane[best];
                if (greater || (isnan(plane[at]) && !isnan(plane[best]))) best = at;
            }
        y[i] = best < 0 ? -INFINITY : plane[best];
        index[i] = (int)best;
    }
}

/* dx = Σ dy over the windows whose greatest this is. A block takes one plane: each thread owns a
   run of its positions, reads all windows and takes those that are its own. */
KERNEL max_pool2d_backward(const real *dy, const int *index, real *dx, i64 planes, i64 inputs,
                           i64 outputs) {
    i64 run = (inputs + blockDim.x - 1) / blockDim.x;
    int begin = (int)least(threadIdx.x * run, inputs), end = (int)least(begin + run, inputs);
    BLOCKS(plane, planes) {
        real *out = dx + plane * inputs;
        for (int i = begin; i < end; i++) out[i] = 0;
        for (i64 i = plane * outputs; i < (plane + 1) * outputs; i++)
            if (index[i] >= begin && index[i] < end) out[index[i]] += dy[i];
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
