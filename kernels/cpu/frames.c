/* Volumes as images, each with the frames that a filter's depth sees as its channels.

   In C order x is (n, c, d, plane) and y (n, count, c, taps, plane); with channels innermost x is
   (n, d, plane, c) and y (n, count, plane, c, taps). */

/* The frame that tap t of image i sees, -1 for none. */
INLINE i64 frame_seen(i64 i, i64 t, i64 depth, i64 stride, i64 padding, i64 dilation) {
  i64 z = i * stride + t * dilation - padding;
  return z < 0 || z >= depth ? -1 : z;
}

/* The image whose tap t sees frame z, -1 for none. */
INLINE i64 image_seeing(i64 z, i64 t, i64 count, i64 stride, i64 padding, i64 dilation) {
  i64 i = z + padding - t * dilation;
  return i < 0 || i % stride || i / stride >= count ? -1 : i / stride;
}

void KERNEL(frames)(const real *x, real *y, i64 n, i64 c, i64 depth, i64 plane, i64 count, i64 taps,
                    i64 stride, i64 padding, i64 dilation) {
#pragma omp parallel for collapse(2) if (n * count * c * taps * plane > PARALLEL_ABOVE)
  for (i64 image = 0; image < n * count; image++)
    for (i64 row = 0; row < c * taps; row++) {
      real *to = y + (image * c * taps + row) * plane;
      i64 z = frame_seen(image % count, row % taps, depth, stride, padding, dilation);
      const real *from = x + ((image / count * c + row / taps) * depth + z) * plane;
      if (z < 0)
        memset(to, 0, plane * sizeof(real));
      else
        memcpy(to, from, plane * sizeof(real));
    }
}

void KERNEL(frames_last)(const real *x, real *y, i64 n, i64 c, i64 depth, i64 plane, i64 count,
                         i64 taps, i64 stride, i64 padding, i64 dilation) {
#pragma omp parallel for collapse(2) if (n * count * c * taps * plane > PARALLEL_ABOVE)
  for (i64 image = 0; image < n * count; image++)
    for (i64 pixel = 0; pixel < plane; pixel++)
      for (i64 t = 0; t < taps; t++) {
        real *to = y + (image * plane + pixel) * c * taps + t;
        i64 z = frame_seen(image % count, t, depth, stride, padding, dilation);
        const real *from = x + ((image / count * depth + z) * plane + pixel) * c;
        for (i64 k = 0; k < c; k++) to[k * taps] = z < 0 ? 0 : from[k];
      }
}

void KERNEL(frames_sum)(const real *y, const real *b, real *x, i64 n, i64 c, i64 depth, i64 plane,
                        i64 count, i64 taps, i64 stride, i64 padding, i64 dilation) {
#pragma omp parallel for if (n * c * depth * plane * taps > PARALLEL_ABOVE)
  for (i64 row = 0; row < n * c * depth; row++) {
    i64 z = row % depth, k = row / depth % c, sample = row / depth / c;
    real *to = x + row * plane;
    for (i64 j = 0; j < plane; j++) to[j] = b ? b[k] : 0;
    for (i64 t = 0; t < taps; t++) {
      i64 i = image_seeing(z, t, count, stride, padding, dilation);
      if (i < 0) continue;
      const real *from = y + (((sample * count + i) * c + k) * taps + t) * plane;
#pragma omp simd
      for (i64 j = 0; j < plane; j++) to[j] += from[j];
    }
  }
}

void KERNEL(frames_sum_last)(const real *y, const real *b, real *x, i64 n, i64 c, i64 depth,
                             i64 plane, i64 count, i64 taps, i64 stride, i64 padding,
                             i64 dilation) {
#pragma omp parallel for collapse(2) if (n * c * depth * plane * taps > PARALLEL_ABOVE)
  for (i64 frame = 0; frame < n * depth; frame++)
    for (i64 pixel = 0; pixel < plane; pixel++) {
      real *to = x + (frame * plane + pixel) * c;
      for (i64 k = 0; k < c; k++) to[k] = b ? b[k] : 0;
      for (i64 t = 0; t < taps; t++) {
        i64 i = image_seeing(frame % depth, t, count, stride, padding, dilation);
        if (i < 0) continue;
        const real *from = y + ((frame / depth * count + i) * plane + pixel) * c * taps + t;
        for (i64 k = 0; k < c; k++) to[k] += from[k * taps];
      }
    }
}
