/* Zeros around a plane, or a part of it: x is (planes, h, w), y (planes, oh, ow). */

/* y[row, column] = x[row - top, column - left], 0 outside of x */
void KERNEL(pad2d)(const real *x, real *y, i64 planes, i64 h, i64 w, i64 oh, i64 ow, i64 top,
                   i64 left) {
  i64 from = max_i64(0, left), to = min_i64(ow, w + left);
#pragma omp parallel for if (planes * oh * ow > PARALLEL_ABOVE)
  for (i64 i = 0; i < planes * oh; i++) {
    i64 row = i % oh - top;
    real *out = y + i * ow;
    if (row < 0 || row >= h) {
      memset(out, 0, ow * sizeof(real));
      continue;
    }
    memset(out, 0, from * sizeof(real));
    memcpy(out + from, x + (i / oh * h + row) * w + from - left, (to - from) * sizeof(real));
    memset(out + to, 0, (ow - to) * sizeof(real));
  }
}
