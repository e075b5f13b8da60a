/* Images from one memory order to the other. */

/* y (n, columns, rows): each plane of x (n, rows, columns) transposed, in blocks of whole lines */
void KERNEL(transpose_planes)(const real *x, real *y, i64 n, i64 rows, i64 columns) {
  enum { HIGH = 64, WIDE = 1024 };
  i64 down = pieces(rows, HIGH), across = pieces(columns, WIDE);
#pragma omp parallel for if (n * rows * columns > PARALLEL_ABOVE)
  for (i64 task = 0; task < n * down * across; task++) {
    i64 plane = task / (down * across) * rows * columns;
    i64 i = task / across % down * HIGH, j = task % across * WIDE;
    i64 high = min_i64(HIGH, rows - i), wide = min_i64(WIDE, columns - j);
    i64 whole = high / LANES * LANES;
    const real *from = x + plane + i * columns + j;
    real *to = y + plane + j * rows + i;
    if (whole) pack(from, columns, 1, whole, wide, rows, to);
    for (i64 l = whole; l < high; l++)
      for (i64 k = 0; k < wide; k++) to[k * rows + l] = from[l * columns + k];
  }
}
