/* Two-dimensional convolution and its gradients. One convolution has an image x (n, c, h, w), a
   filter (k, c/groups, p, q) and a result y (n, k, oh, ow); a transposed convolution is the same
   with image and result exchanged. Each element of an output gathers what it is the sum of.

   There are two forms: a thread (or block) an element, for groups of a few channels, and for all
   others a product of matrices (conv2d_product), of which one is gathered from the image. */
#include "product.h"

/* y = x * filter + b, b (k,) or null */
KERNEL conv2d(const real *x, const real *filter, const real *b, real *y, i64 n, i64 c, i64 h,
              i64 w, i64 k, i64 p, i64 q, i64 oh, i64 ow, i64 stride_h, i64 stride_w, i64 pad_h,
              i64 pad_w, i64 dilation_h, i64 dilation_w, i64 groups) {
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
        y[i] = sum + (b ? b[channel] : 0);
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

/* db[channel] += Σ dy: dy (n, k, inner), one block a channel */
KERNEL conv2d_bias(const real *dy, real *db, i64 n, i64 k, i64 inner) {
    SHARED real shared[BLOCK];
    BLOCKS(channel, k) {
        real sum = 0;
        THREADS(j, n * inner) sum += dy[(j / inner * k + channel) * inner + j % inner];
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) db[channel] += sum;
    }
}

/* y[i] = Σ parts[:, i] + b[channel], or y += Σ parts (add): y (n, channels, inner), b may be null */
KERNEL conv2d_join(const real *parts, const real *b, real *y, i64 size, i64 count, i64 channels,
                   i64 inner, i64 add) {
    STRIDED(i, size) {
        real sum = add ? y[i] : b ? b[i / inner % channels] : 0;
        for (i64 part = 0; part < count; part++) sum += parts[part * size + i];
        y[i] = sum;
    }
}

/* Where a number points: into memory, and to a row and a column of the image. */
struct Place {
    i64 offset, y, x;
};

/* Numbers as (outer, a, b) in C order, and the places of these. */
struct Grid {
    i64 count, a, b, outer_offset, y_step, y_start, x_step, x_start;

    __device__ Place place(i64 i) const {
        if (i >= count) return Place{0, -(1ll << 40), 0}; /* far outside of the image */
        return Place{i / (a * b) * outer_offset, i / b % a * y_step + y_start,
                     i % b * x_step + x_start};
    }
};

/* TILE rows of a filter (or of dy): depth k lies at k / inner * outer_step + k % inner. */
struct Rows {
    const real *x;
    i64 row, rows, row_step, inner, outer_step, end, first;
    i64 *offsets; /* of the DEPTH depths, shared */
    bool along_depth;

    __device__ void prepare(i64 k0, i64 to) {
        first = k0;
        end = to;
        THREADS(k, DEPTH) offsets[k] = (k0 + k) / inner * outer_step + (k0 + k) % inner;
    }
    __device__ real at(i64 r, i64 k) const {
        bool inside = row + r < rows && first + k < end;
        return inside ? x[(row + r) * row_step + offsets[k]] : 0;
    }
};

/* TILE columns of the image's values: column r at depth k is at the sum of their places, divided by
   the strides, and zero outside of the image and between the strides. */
struct Gathered {
    const real *x;
    i64 h, w, stride_h, stride_w;
    Grid depths;
    const Place *columns; /* of the TILE columns, shared */
    Place *places;        /* of the DEPTH depths, shared */
    bool along_depth;

    __device__ void prepare(i64 k0, i64 to) {
        depths.count = to;
        THREADS(k, DEPTH) places[k] = depths.place(k0 + k);
    }
    __device__ real at(i64 r, i64 k) const {
        i64 y = columns[r].y + places[k].y, column = columns[r].x + places[k].x;
        if (y < 0 || column < 0) return 0;
        if (stride_h > 1 || stride_w > 1) {
            if (y % stride_h || column % stride_w) return 0;
            y /= stride_h;
            column /= stride_w;
        }
        bool inside = y < h && column < w;
        return inside ? x[columns[r].offset + places[k].offset + y * w + column] : 0;
    }
};

/* parts[p] = the part of y that is the product of a and the gathered image over part p of the
   depths; with one part and b (null, or a value a row) that is y = a image + b. Per group y has
   `rows` rows, row r and column c of it at c / y_inner * y_outer + c % y_inner + r * y_row. The
   a_ numbers are those of Rows; c_ and d_ are the grids of the columns and the depths. */
KERNEL conv2d_product(const real *a, const real *image, const real *b, real *parts, i64 groups,
                      i64 count, i64 size, i64 rows, i64 columns, i64 depth, i64 a_group, i64 a_row,
                      i64 a_inner, i64 a_outer, i64 image_group, i64 h, i64 w, i64 stride_h,
                      i64 stride_w, i64 c_a, i64 c_b, i64 c_offset, i64 c_y_step, i64 c_y_start,
                      i64 c_x_step, i64 c_x_start, i64 d_a, i64 d_b, i64 d_offset, i64 d_y_step,
                      i64 d_y_start, i64 d_x_step, i64 d_x_start, i64 y_group, i64 y_row,
                      i64 y_inner, i64 y_outer, i64 columns_along_depth) {
    SHARED Part part_a;
    SHARED Part part_b;
    SHARED i64 offsets[DEPTH];
    SHARED Place depth_places[DEPTH];
    SHARED Place column_places[TILE];
    i64 across = (columns + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    i64 each = ((depth + count - 1) / count + DEPTH - 1) / DEPTH * DEPTH; /* depths a part */
    Grid column_grid = {columns,   c_a,      c_b,      c_offset,
                        c_y_step, c_y_start, c_x_step, c_x_start};
    Grid depth_grid = {depth, d_a, d_b, d_offset, d_y_step, d_y_start, d_x_step, d_x_start};
    BLOCKS(job, groups * count * down * across) {
        i64 column = job % across * TILE, row = job / across % down * TILE;
        i64 part = job / (across * down) % count, group = job / (across * down * count);
        i64 from = part * each, to = from + each < depth ? from + each : depth;
        THREADS(c, TILE) column_places[c] = column_grid.place(column + c);
        Rows left = {a + group * a_group, row, rows, a_row, a_inner, a_outer, 0, 0, offsets, true};
        Gathered right = {image + group * image_group, h, w, stride_h, stride_w, depth_grid,
                          column_places, depth_places, columns_along_depth != 0};
        for (u32 pass = 0; pass < PASSES; pass += blockDim.x) {
            Seat at = seat(pass);
            real sum[EACH][EACH] = {};
            add_product(left, right, from, to, at, sum, part_a, part_b);
            if (!at.busy) continue;
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) {
                    i64 r = row + at.row + i * SIDE, c = column + at.column + j * SIDE;
                    if (r >= rows || c >= columns) continue;
                    parts[part * size + group * y_group + r * y_row + c / y_inner * y_outer +
                          c % y_inner] = sum[i][j] + (b ? b[group * rows + r] : 0);
                }
        }
    }
}
