/* Two-dimensional convolution and its gradients. One convolution has an image x (n, c, h, w), a
   filter (k, c/groups, p, q) and a result y (n, k, oh, ow); a transposed convolution is the same
   with image and result exchanged. Each element of an output gathers what it is the sum of.

   There are two forms: a thread (or block) an element, for groups of a few channels and for
   windows of many rows and columns, and for all others a product of matrices, in
   conv_product.cu. */
#include "kernel.h"

/* y = clamp(x * filter + b + other, low, high); b (k,) and other (as y) may be null */
KERNEL conv2d(const real *x, const real *filter, const real *b, const real *other, real *y, i64 n,
              i64 c, i64 h, i64 w, i64 k, i64 p, i64 q, i64 oh, i64 ow, i64 stride_h,
              i64 stride_w, i64 pad_h, i64 pad_w, i64 dilation_h, i64 dilation_w, i64 groups,
              real low, real high) {
    i64 cg = c / groups, kg = k / groups;
    STRIDED(i, n * k * oh * ow) {
        i64 ox = i % ow, oy = i / ow % oh, channel = i / (ow * oh) % k, image = i / (ow * oh * k);
        i64 top = oy * stride_h - pad_h, left = ox * stride_w - pad_w;
        const real *plane = x + (image * c + channel / kg * cg) * h * w;
        const real *f = filter + channel * cg * p * q;
        real sum = 0;
        for (i64 ci = 0; ci < cg; ci++, plane += h * w)
            for (i64 fy = 0; fy < p; fy++)
                for (i64 fx = 0; fx < q; fx++, f++) {
                    i64 iy = top + fy * dilation_h, ix = left + fx * dilation_w;
                    if (iy >= 0 && iy < h && ix >= 0 && ix < w) sum += plane[iy * w + ix] * *f;
                }
        sum += (b ? b[channel] : 0) + (other ? other[i] : 0);
        y[i] = sum < low ? low : sum > high ? high : sum;
    }
}

/* x = the gradient of conv2d with respect to x at dy, + b (c,) or null: a transposed convolution */
KERNEL conv2d_data(const real *dy, const real *filter, const real *b, real *x, i64 n, i64 c, i64 h,
                   i64 w, i64 k, i64 p, i64 q, i64 oh, i64 ow, i64 stride_h, i64 stride_w,
                   i64 pad_h, i64 pad_w, i64 dilation_h, i64 dilation_w, i64 groups) {
    i64 cg = c / groups, kg = k / groups;
    STRIDED(i, n * c * h * w) {
        i64 ix = i % w, iy = i / w % h, channel = i / (w * h) % c, image = i / (w * h * c);
        i64 first = channel / cg * kg;
        real sum = 0;
        for (i64 fy = 0; fy < p; fy++) {
            i64 down = iy + pad_h - fy * dilation_h;
            if (down < 0 || down % stride_h || down / stride_h >= oh) continue;
            for (i64 fx = 0; fx < q; fx++) {
                i64 right = ix + pad_w - fx * dilation_w;
                if (right < 0 || right % stride_w || right / stride_w >= ow) continue;
                const real *d = dy + ((image * k + first) * oh + down / stride_h) * ow +
                                right / stride_w;
                const real *f = filter + ((first * cg + channel % cg) * p + fy) * q + fx;
                for (i64 ki = 0; ki < kg; ki++, d += oh * ow, f += cg * p * q) sum += *d * *f;
            }
        }
        x[i] = sum + (b ? b[channel] : 0);
    }
}

/* dfilter += the gradient with respect to the filter, one block an element */
KERNEL conv2d_filter(const real *x, const real *dy, real *dfilter, i64 n, i64 c, i64 h, i64 w,
                     i64 k, i64 p, i64 q, i64 oh, i64 ow, i64 stride_h, i64 stride_w, i64 pad_h,
                     i64 pad_w, i64 dilation_h, i64 dilation_w, i64 groups) {
    SHARED real shared[BLOCK];
    i64 cg = c / groups, kg = k / groups;
    BLOCKS(i, k * cg * p * q) {
        i64 fx = i % q, fy = i / q % p, channel = i / (q * p * cg);
        i64 from = channel / kg * cg + i / (q * p) % cg;
        real sum = 0;
        THREADS(j, n * oh * ow) {
            i64 ox = j % ow, oy = j / ow % oh, image = j / (ow * oh);
            i64 iy = oy * stride_h - pad_h + fy * dilation_h;
            i64 ix = ox * stride_w - pad_w + fx * dilation_w;
            if (iy >= 0 && iy < h && ix >= 0 && ix < w)
                sum += x[((image * c + from) * h + iy) * w + ix] *
                       dy[((image * k + channel) * oh + oy) * ow + ox];
        }
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) dfilter[i] += sum;
    }
}

/* parts (count, k) = Σ dy over the images n p / count to n (p + 1) / count of part p: dy (n, k,
   inner), one block a channel of a part */
KERNEL conv2d_bias(const real *dy, real *parts, i64 n, i64 k, i64 inner, i64 count) {
    SHARED real shared[BLOCK];
    BLOCKS(job, k * count) {
        i64 channel = job % k, part = job / k, lanes = LANES(inner);
        real sum = 0;
        for (i64 image = part * n / count + threadIdx.x / lanes; image < (part + 1) * n / count;
             image += blockDim.x / lanes) {
            const real *row = dy + (image * k + channel) * inner;
            LANE(j, inner, lanes) sum += row[j];
        }
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) parts[job] = sum;
    }
}
