/* Convolution as a matrix product of the weights with patches of the image, which are packed
   block by block straight into the product's panels; the whole patch matrix never exists.

   One description serves the convolution, its gradients and the transposed convolution: windows
   stand on a grid, and tap (p, q) of window (i, j) reads the source at
   (i * stride_h + start_h + p * step_h, j * stride_w + start_w + q * step_w), zero outside. */

struct conv {
  i64 n, groups, c, h, w;                       /* source (n, groups * c, h, w) */
  i64 k, p, q;                                  /* weights (groups, k, c, p, q) */
  i64 grid_h, grid_w;                           /* windows of an image */
  i64 stride_h, stride_w, start_h, start_w, step_h, step_w;
  i64 y_start, y_image, y_channel, y_row, y_column; /* where y keeps a window's sums */
  i64 w_group, w_row, w_channel;                /* strides of the weights; p, q lie together */
  i64 rows, columns, channels;                  /* a block: of k, of the windows, of c */
  i64 threads, work;                            /* work: numbers of scratch memory a thread */
};

/* to[i] = from[i] for fewer than LANES numbers: two overlapping pieces of a power of two. */
INLINE void copy_short(real *to, const real *from, i64 length) {
  enum { HALF = LANES / 2, QUARTER = LANES / 4 };
  if (length >= HALF) {
    memcpy(to, from, HALF * sizeof(real));
    memcpy(to + length - HALF, from + length - HALF, HALF * sizeof(real));
  } else if (QUARTER > 1 && length >= QUARTER) {
    memcpy(to, from, QUARTER * sizeof(real));
    memcpy(to + length - QUARTER, from + length - QUARTER, QUARTER * sizeof(real));
  } else {
    for (i64 i = 0; i < length; i++) to[i] = from[i];
  }
}

/* LANES numbers, every second from here on; reads nothing behind the last of them. */
INLINE vec load_seconds(const real *from) {
  typedef __typeof__((vec){0} < (vec){0}) picks;
  picks seconds;
  for (int l = 0; l < LANES; l++) seconds[l] = l < LANES / 2 ? 2 * l : 2 * l + 1;
  return __builtin_shuffle(load(from), load(from + LANES - 1), seconds);
}

/* Copy `length` numbers, `stride` apart in the source, for each channel. Whole vectors that
   overlap at the end neither read nor write outside the run. */
INLINE void copy_run(real *to, i64 pitch, const real *from, i64 plane, i64 channels, i64 length,
                     i64 stride) {
  i64 last = length - LANES;
  for (i64 c = 0; c < channels; c++, to += pitch, from += plane) {
    if (stride == 1 && last >= 0) {
      for (i64 i = 0; i < last; i += LANES) store(to + i, load(from + i));
      store(to + last, load(from + last));
    } else if (stride == 1) {
      copy_short(to, from, length);
    } else if (stride == 2 && last >= 0) {
      for (i64 i = 0; i < last; i += LANES) store(to + i, load_seconds(from + 2 * i));
      store(to + last, load_seconds(from + 2 * last));
    } else {
      for (i64 i = 0; i < length; i++) to[i] = from[i * stride];
    }
  }
}

/* Borders are narrow: column by column, which leaves no short memset for each channel. */
INLINE void zero_run(real *to, i64 pitch, i64 channels, i64 length) {
  for (i64 i = 0; i < length; i++)
    for (i64 c = 0; c < channels; c++) to[c * pitch + i] = 0;
}

/* What the taps read for `length` windows of one grid row, beginning with window (i, j): tap t of
   channel c goes to to[(c * p * q + t) * pitch]. */
static void pack_run(const struct conv *s, const real *x, i64 i, i64 j, i64 length, i64 channels,
                     real *to, i64 pitch) {
  i64 taps = s->p * s->q, plane = s->h * s->w;
  for (i64 p = 0; p < s->p; p++)
    for (i64 q = 0; q < s->q; q++, to += pitch) {
      i64 row = i * s->stride_h + s->start_h + p * s->step_h;
      i64 column = j * s->stride_w + s->start_w + q * s->step_w;
      i64 from = column < 0 ? min_i64(length, pieces(-column, s->stride_w)) : 0;
      i64 till = column < s->w ? min_i64(length, (s->w - 1 - column) / s->stride_w + 1) : 0;
      if (row < 0 || row >= s->h || till <= from) {
        zero_run(to, taps * pitch, channels, length);
        continue;
      }
      zero_run(to, taps * pitch, channels, from);
      copy_run(to + from, taps * pitch, x + row * s->w + column + from * s->stride_w, plane,
               channels, till - from, s->stride_w);
      zero_run(to + till, taps * pitch, channels, length - till);
    }
}

/* Patches: row (c * p * q + t) holds what tap t of channel c reads for windows first to
   first + count - 1, counted through the images. x: the first channel wanted of image 0. */
static void pack_patches(const struct conv *s, const real *x, i64 first, i64 count, i64 channels,
                         real *to, i64 pitch) {
  i64 image = s->groups * s->c * s->h * s->w, grid = s->grid_h * s->grid_w;
  for (i64 done = 0, length; done < count; done += length) {
    i64 window = (first + done) % grid, j = window % s->grid_w;
    length = min_i64(count - done, s->grid_w - j);
    pack_run(s, x + (first + done) / grid * image, window / s->grid_w, j, length, channels,
             to + done, pitch);
  }
}

/* y's place for a window, counted through the images. */
INLINE i64 place(const struct conv *s, i64 window) {
  i64 grid = s->grid_h * s->grid_w, within = window % grid;
  return window / grid * s->y_image + within / s->grid_w * s->y_row +
         within % s->grid_w * s->y_column;
}

/* A tile of y whose windows do not lie side by side: computed beside y, then spread. */
static void tile_spread(const struct conv *s, i64 rows, i64 first, i64 count, i64 depth,
                        const real *a, const real *b, real *y, struct start start) {
  real beside[TILE_ROWS * TILE_COLUMNS];
  i64 places[TILE_COLUMNS];
  for (i64 j = 0; j < count; j++) places[j] = place(s, first + j);
  if (start.add)
    for (i64 i = 0; i < rows; i++)
      for (i64 j = 0; j < count; j++)
        beside[i * TILE_COLUMNS + j] = y[i * s->y_channel + places[j]];
  tile(rows, pieces(count, LANES), depth, a, b, beside, TILE_COLUMNS, start);
  for (i64 i = 0; i < rows; i++)
    for (i64 j = 0; j < count; j++)
      y[i * s->y_channel + places[j]] = beside[i * TILE_COLUMNS + j];
}

/* Tiles of one panel of rows with all panels of a block of windows. */
static void tiles(const struct conv *s, i64 rows, i64 first, i64 count, i64 depth, const real *a,
                  const real *b, real *y, struct start start) {
  i64 grid = s->grid_h * s->grid_w;
  int side_by_side = s->y_column == 1 && s->y_row == s->grid_w;
  for (i64 j = 0; j < count; j += TILE_COLUMNS, b += depth * TILE_COLUMNS) {
    i64 window = first + j, columns = min_i64(count - j, TILE_COLUMNS);
    if (side_by_side && window % grid + columns <= grid)
      tile_in(rows, columns, depth, a, b, y + place(s, window), s->y_channel, start);
    else
      tile_spread(s, rows, window, columns, depth, a, b, y, start);
  }
}

/* y of one block: rows row to row + rows - 1 of a group, windows first to first + count - 1. */
static void conv_block(const struct conv *s, const real *x, const real *w, const real *b, real *y,
                       i64 group, i64 row, i64 rows, i64 first, i64 count, real *work) {
  i64 taps = s->p * s->q, plane = s->h * s->w;
  for (i64 c = 0; c < s->c; c += s->channels) {
    i64 channels = min_i64(s->channels, s->c - c), depth = channels * taps;
    real *left = work, *right = work + depth * LEFT_PITCH;
    for (i64 j = 0; j < count; j += TILE_COLUMNS)
      pack_patches(s, x + (group * s->c + c) * plane, first + j,
                   min_i64(TILE_COLUMNS, count - j), channels, right + j * depth, TILE_COLUMNS);
    for (i64 i = 0; i < pieces(rows, TILE_ROWS); i++) {
      i64 within = row + panel_row(rows, i), r = group * s->k + within;
      i64 height = panel_row(rows, i + 1) - panel_row(rows, i);
      struct start start = {.add = c > 0, .bias = b ? b + r : NULL};
      pack(w + group * s->w_group + within * s->w_row + c * s->w_channel, s->w_row,
           taps == 1 ? s->w_channel : 1, height, depth, LEFT_PITCH, left);
      tiles(s, height, first, count, depth, left, right, y + s->y_start + r * s->y_channel, start);
    }
  }
}

/* y = w * x + b over the windows of the grid */
void KERNEL(conv2d)(const real *x, const real *w, const real *b, real *y, const i64 *shape,
                    real *work) {
  const struct conv *s = (const struct conv *)shape;
  i64 windows = s->n * s->grid_h * s->grid_w;
  i64 down = pieces(s->k, s->rows), across = pieces(windows, s->columns);
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
  for (i64 task = 0; task < s->groups * down * across; task++) {
    i64 group = task / (down * across), row = task / across % down * s->rows;
    i64 first = task % across * s->columns;
    conv_block(s, x, w, b, y, group, row, min_i64(s->rows, s->k - row), first,
               min_i64(s->columns, windows - first), work + omp_get_thread_num() * s->work);
  }
}

/* dw of one block: rows row to row + rows - 1 of a group, source channels c to c + channels - 1. */
static void weight_block(const struct conv *s, const real *x, const real *dy, real *dw, i64 group,
                         i64 row, i64 rows, i64 c, i64 channels, real *work) {
  i64 taps = s->p * s->q, grid = s->grid_h * s->grid_w, r = group * s->k + row;
  const real *source = x + (group * s->c + c) * s->h * s->w;
  for (i64 image = 0; image < s->n; image++)
    for (i64 first = 0; first < grid; first += s->columns) {
      i64 count = min_i64(s->columns, grid - first);
      struct matrix a = {dy + (image * s->groups * s->k + r) * grid + first, grid, 1};
      struct matrix patches = {work, 1, count};
      pack_patches(s, source, image * grid + first, count, channels, work, count);
      add_product(rows, channels * taps, count, a, patches, dw + (r * s->c + c) * taps,
                  s->c * taps, work + channels * taps * count);
    }
}

/* dw += the sum over all windows of dy times what each tap read        dy (n, groups * k, grid) */
void KERNEL(conv2d_weight)(const real *x, const real *dy, real *dw, const i64 *shape, real *work) {
  const struct conv *s = (const struct conv *)shape;
  i64 down = pieces(s->k, s->rows), across = pieces(s->c, s->channels);
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
  for (i64 task = 0; task < s->groups * down * across; task++) {
    i64 group = task / (down * across), row = task / across % down * s->rows;
    i64 c = task % across * s->channels;
    weight_block(s, x, dy, dw, group, row, min_i64(s->rows, s->k - row), c,
                 min_i64(s->channels, s->c - c), work + omp_get_thread_num() * s->work);
  }
}

/* db += Σ dy        dy (n, k, plane) */
void KERNEL(channel_sums)(const real *dy, real *db, i64 n, i64 k, i64 plane) {
#pragma omp parallel for if (n * k * plane > PARALLEL_ABOVE)
  for (i64 c = 0; c < k; c++)
    for (i64 i = 0; i < n; i++) {
      const real *from = dy + (i * k + c) * plane;
      vec sums = {0};
      i64 j = 0;
      real sum = 0;
      for (; j + LANES <= plane; j += LANES) sums += load(from + j);
      for (i64 l = 0; l < LANES; l++) sum += sums[l];
      for (; j < plane; j++) sum += from[j];
      db[c] += sum;
    }
}
