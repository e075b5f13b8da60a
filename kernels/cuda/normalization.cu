/* Normalisation by batch statistics and by local energy; x is (n, c, inner). */
#include "kernel.h"

/* Part p of the images, those from n p / count on. */
#define PART_START(p) ((p) * n / count)

/* The values of a channel in a part of the images, dealt to the threads of a block. */
#define CHANNEL(i, part, k)                                                                       \
    for (i64 lanes = LANES(inner), image = PART_START(part) + threadIdx.x / lanes;                \
         image < PART_START((part) + 1); image += blockDim.x / lanes)                             \
        for (i64 i = (image * c + (k)) * inner + threadIdx.x % lanes,                             \
                 stop = (image * c + (k) + 1) * inner;                                            \
             i < stop; i += lanes)

/* means and squares (count, c): of each part the mean, and Σ (x - mean)². A block a part of a
   channel; count is at most n. */
KERNEL batch_parts(const real *x, real *means, real *squares, i64 n, i64 c, i64 inner, i64 count) {
    SHARED real shared[BLOCK];
    BLOCKS(job, c * count) {
        i64 k = job % c, part = job / c;
        real size = (real)((PART_START(part + 1) - PART_START(part)) * inner);
        real sum = 0, rest = 0, square = 0;
        CHANNEL(i, part, k) sum += x[i];
        real centre = block_sum(sum, shared) / size;
        CHANNEL(i, part, k) {
            real from = x[i] - centre;
            rest += from;
            square += from * from;
        }
        rest = block_sum(rest, shared) / size; /* what the first sum lost to rounding */
        square = block_sum(square, shared) - rest * rest * size;
        if (threadIdx.x > 0) continue;
        means[job] = centre + rest;
        squares[job] = square;
    }
}

/* mean = Σ x / m, inv_std = 1/√(Σ (x - mean)² / m + eps), m = n inner, from those of the parts;
   where the running ones are not null they move by momentum towards mean and the unbiased
   variance. */
KERNEL batch_statistics(const real *means, const real *squares, real *mean, real *inv_std,
                        real *running_mean, real *running_var, i64 n, i64 c, i64 inner, i64 count,
                        real momentum, real eps) {
    STRIDED(k, c) {
        real centre = 0, square = 0;
        for (i64 part = 0; part < count; part++)
            centre += means[part * c + k] * (PART_START(part + 1) - PART_START(part)) / n;
        for (i64 part = 0; part < count; part++) {
            real from = means[part * c + k] - centre;
            i64 images = PART_START(part + 1) - PART_START(part);
            square += squares[part * c + k] + from * from * (images * inner);
        }
        real variance = square / (n * inner);
        mean[k] = centre;
        inv_std[k] = 1 / sqrt(variance + eps);
        if (running_mean) running_mean[k] += momentum * (centre - running_mean[k]);
        if (running_var) running_var[k] += momentum * (square / (n * inner - 1) - running_var[k]);
    }
}

KERNEL inverse_root(const real *x, real *y, i64 n, real eps) {
    STRIDED(i, n) y[i] = 1 / sqrt(x[i] + eps);
}

/* y = (x - mean) inv_std w + b + other, or 0 where that is less (relu); w, b, other may be null */
KERNEL batch_norm(const real *x, const real *other, const real *w, const real *b,
                  const real *mean, const real *inv_std, real *y, i64 planes, i64 c, i64 inner,
                  i64 relu) {
    u32 lanes = LANES(inner);
    ROWS(plane, planes, lanes) {
        i64 k = plane % c, start = plane * inner;
        real centre = mean[k], scale = inv_std[k] * (w ? w[k] : 1), shift = b ? b[k] : 0;
        auto norm = [=](real a, real more) {
            real v = (a - centre) * scale + shift + more;
            return relu && v <= 0 ? (real)0 : v;
        };
        auto alone = [=](real a) { return norm(a, 0); };
        if (other) row_values(lanes, inner, y + start, norm, x + start, other + start);
        else row_values(lanes, inner, y + start, alone, x + start);
    }
}

/* sums (2, count, c): of each part (Σ dy, Σ dy x̂), dy 0 where y, if it is not null, is not above
   0. A block a part of a channel; count is at most n. */
KERNEL batch_norm_parts(const real *x, const real *y, const real *dy, const real *mean,
                        const real *inv_std, real *sums, i64 n, i64 c, i64 inner, i64 count) {
    SHARED real shared[BLOCK];
    BLOCKS(job, c * count) {
        i64 k = job % c, part = job / c;
        real sum = 0, product = 0, centre = mean[k];
        CHANNEL(i, part, k) {
            real d = !y || y[i] > 0 ? dy[i] : 0;
            sum += d;
            product += d * (x[i] - centre);
        }
        sum = block_sum(sum, shared);
        product = block_sum(product, shared);
        if (threadIdx.x > 0) continue;
        sums[job] = sum;
        sums[c * count + job] = product * inv_std[k];
    }
}

/* sums (2, c) = Σ parts, db += Σ dy, dw += Σ dy x̂; dw, db may be null */
KERNEL batch_norm_sums(const real *parts, real *sums, real *dw, real *db, i64 c, i64 count) {
    STRIDED(k, c) {
        real sum = 0, product = 0;
        for (i64 part = 0; part < count; part++) {
            sum += parts[part * c + k];
            product += parts[(count + part) * c + k];
        }
        sums[k] = sum;
        sums[c + k] = product;
        if (db) db[k] += sum;
        if (dw) dw[k] += product;
    }
}

/* dx = w inv_std (dy - (Σ dy + x̂ Σ dy x̂) / m), in training; without the sums (null) otherwise. dy
   is 0 where y, if it is not null, is not above 0, and that is dother where this is not null. */
KERNEL batch_norm_backward(const real *x, const real *y, const real *dy, const real *w,
                           const real *mean, const real *inv_std, const real *sums, real *dx,
                           real *dother, i64 planes, i64 c, i64 inner) {
    u32 lanes = LANES(inner);
    i64 m = planes / c * inner;
    ROWS(plane, planes, lanes) {
        i64 k = plane % c, start = plane * inner;
        real centre = mean[k], scale = inv_std[k] * (w ? w[k] : 1);
        real shift = sums ? sums[k] / m : 0, slope = sums ? inv_std[k] * sums[c + k] / m : 0;
        auto held = [](real v, real d) { return v > 0 ? d : (real)0; };
        auto grad = [=](real a, real d) { return (d - shift - (a - centre) * slope) * scale; };
        auto both = [=](real a, real v, real d) { return grad(a, held(v, d)); };
        const real *xs = x + start, *ys = y + start, *dys = dy + start;
        if (dother) row_values(lanes, inner, dother + start, held, ys, dys);
        if (y) row_values(lanes, inner, dx + start, both, xs, ys, dys);
        else row_values(lanes, inner, dx + start, grad, xs, dys);
    }
}

/* The neighbours of a value: the box from `low` before to `high` after it, over channels (deep) or
   over the plane. x is (n, c, h, w). */
struct Box {
    i64 c0, c1, y0, y1, x0, x1;
};

__device__ inline Box box(i64 i, i64 c, i64 h, i64 w, i64 low, i64 high, i64 within) {
    i64 k = i / (h * w) % c, y = i / w % h, x = i % w;
    i64 deep = within ? 0 : 1, flat = within ? 1 : 0;
    Box b = {k - deep * low,  k + deep * high + 1, y - flat * low,
             y + flat * high + 1, x - flat * low,  x + flat * high + 1};
    b.c0 = b.c0 < 0 ? 0 : b.c0;
    b.y0 = b.y0 < 0 ? 0 : b.y0;
    b.x0 = b.x0 < 0 ? 0 : b.x0;
    b.c1 = b.c1 > c ? c : b.c1;
    b.y1 = b.y1 > h ? h : b.y1;
    b.x1 = b.x1 > w ? w : b.x1;
    return b;
}

#define IN_BOX(j, b)                                                                              \
    for (i64 bc = (b).c0; bc < (b).c1; bc++)                                                      \
        for (i64 by = (b).y0; by < (b).y1; by++)                                                  \
            for (i64 j = ((image * c + bc) * h + by) * w + (b).x0, stop = j - (b).x0 + (b).x1;    \
                 j < stop; j++)

/* scale = k + alpha Σ x² over the neighbours */
KERNEL response_scale(const real *x, real *scale, i64 n, i64 c, i64 h, i64 w, i64 low, i64 high,
                      i64 within, real alpha, real k) {
    STRIDED(i, n) {
        i64 image = i / (c * h * w);
        Box near = box(i, c, h, w, low, high, within);
        real sum = 0;
        IN_BOX(j, near) sum += x[j] * x[j];
        scale[i] = k + alpha * sum;
    }
}

/* y = x scale^-beta */
KERNEL response_norm(const real *x, const real *scale, real *y, i64 n, real beta) {
    STRIDED(i, n) y[i] = x[i] * pow(scale[i], -beta);
}

/* dx = dy scale^-beta - 2 alpha beta x Σ dy x scale^(-beta-1) over those it is a neighbour of */
KERNEL response_norm_backward(const real *x, const real *dy, const real *scale, real *dx, i64 n,
                              i64 c, i64 h, i64 w, i64 low, i64 high, i64 within, real alpha,
                              real beta) {
    STRIDED(i, n) {
        i64 image = i / (c * h * w);
        Box near = box(i, c, h, w, high, low, within);
        real sum = 0;
        IN_BOX(j, near) sum += dy[j] * x[j] * pow(scale[j], -beta - 1);
        dx[i] = dy[i] * pow(scale[i], -beta) - 2 * alpha * beta * x[i] * sum;
    }
}
