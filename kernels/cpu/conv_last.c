/* Convolution with channels lying together: rows of what the windows read times packed panels.

   An output row's windows stand `stride_w` pixels apart, so that a tile's rows are addressed in
   the image itself; where there is padding, or channels do not lie together, a strip of the image
   is copied first, with its zeros, into memory that stays in the caches. */
#include "panels.h"
#include "queues.h"

enum { /* bytes */
  NEAREST = 16 << 10, /* of weights that stay in the first-level cache */
  NEAR = 300 << 10,   /* of weights that stay in the second-level cache */
  FAR = 1 << 20       /* of results that do not */
};

struct conv_last {
  i64 n, groups, c, h, w; /* source (n, groups * c, h, w) */
  i64 k, p, q;            /* weights (groups, k, c, p, q), packed */
  i64 grid_h, grid_w, stride_h, stride_w, pad_h, pad_w, step_h, step_w;
  i64 x_image, x_channel, x_row, x_column; /* strides of the source */
  i64 copies, gathers; /* whether strips are copied; rows of taps gathered at a time, or 0 */
  i64 lines, columns, panels;              /* a task: output rows, columns, panels */
  i64 threads, work;                       /* work: numbers of scratch memory a thread */
  i64 y_lines, y_columns, y_image, y_row;  /* an image of y, steps of images and lines; or 0 where */
  i64 pitch;                               /* all pixels of y stand at equal steps, which these are */
};

/* A task: its windows, and where what they read stands. */
struct strip {
  i64 image, images, line, lines, column, columns, group;
  const real *x;
  i64 x_row, x_column;
};

/* The strips counted through groups, columns, lines and images. */
static struct strip strip_of(const struct conv_last *s, i64 i) {
  i64 down = pieces(s->grid_h, s->lines), across = pieces(s->grid_w, s->columns);
  struct strip t = {.group = i % s->groups, .column = i / s->groups % across * s->columns};
  i /= s->groups * across;
  t.image = i / down, t.images = 1, t.line = i % down * s->lines;
  t.lines = min_i64(s->lines, s->grid_h - t.line);
  t.columns = min_i64(s->columns, s->grid_w - t.column);
  return t;
}

/* to (pixels, 3) = planes of colours, `apart` from each other; gives how many of the pixels it did,
   whole vectors of them. */
static i64 copy_colours(const real *x, i64 apart, i64 count, real *to) {
  lanes_mask first[3], second[3]; /* of the two planes before the last, then of these and the last */
#pragma GCC unroll 3
  for (int o = 0; o < 3; o++)
#pragma GCC unroll 16
    for (int l = 0; l < LANES; l++) {
      const int pixel = (o * LANES + l) / 3, colour = (o * LANES + l) % 3;
      first[o][l] = colour == 1 ? LANES + pixel : pixel;
      second[o][l] = colour == 2 ? LANES + pixel : l;
    }
  i64 l = 0;
  for (; l + LANES <= count; l += LANES, x += LANES) {
    vec red = load(x), green = load(x + apart), blue = load(x + 2 * apart);
#pragma GCC unroll 3
    for (int o = 0; o < 3; o++, to += LANES)
      store(to, __builtin_shuffle(__builtin_shuffle(red, green, first[o]), blue, second[o]));
  }
  return l;
}

/* One row of a strip from the image: `count` pixels from column j on, zeros outside. */
static void copy_row(const struct conv_last *s, const real *x, i64 j, i64 count, real *to) {
  i64 from = min_i64(max_i64(-j, 0), count), till = max_i64(min_i64(s->w - j, count), from);
  i64 c = s->c;
  memset(to, 0, from * c * sizeof(real));
  memset(to + till * c, 0, (count - till) * c * sizeof(real));
  x += (j + from) * s->x_column, to += from * c, count = till - from;
  if (s->x_channel == 1 && s->x_column == c) {
    memcpy(to, x, count * c * sizeof(real));
  } else if (s->x_channel == 1) {
    for (i64 i = 0; i < count; i++) memcpy(to + i * c, x + i * s->x_column, c * sizeof(real));
  } else if (c % LANES == 0) {
    pack(x, s->x_channel, s->x_column, c, count, c, to);
  } else {
    i64 done = c == 3 && s->x_column == 1 ? copy_colours(x, s->x_channel, count, to) : 0;
    for (i64 i = 0; i < c; i++)
      for (i64 l = done; l < count; l++) to[l * c + i] = x[i * s->x_channel + l * s->x_column];
  }
}

/* Point the strip at what its windows read: in the image, or where it will be copied to. */
static void point_strip(const struct conv_last *s, const real *x, struct strip *t, real *work) {
  i64 top = t->line * s->stride_h - s->pad_h, left = t->column * s->stride_w - s->pad_w;
  i64 columns = (t->columns - 1) * s->stride_w + (s->q - 1) * s->step_w + 1;
  if (s->copies) {
    t->x = work, t->x_column = s->c, t->x_row = columns * s->c;
  } else {
    t->x = x + t->image * s->x_image + t->group * s->c + top * s->x_row + left * s->x_column;
    t->x_row = s->x_row, t->x_column = s->x_column;
  }
}

/* Point the strip at what its windows read, copied if it must be. */
static void read_strip(const struct conv_last *s, const real *x, struct strip *t, real *work) {
  point_strip(s, x, t, work);
  if (!s->copies) return;
  i64 rows = (t->lines - 1) * s->stride_h + (s->p - 1) * s->step_h + 1;
  i64 top = t->line * s->stride_h - s->pad_h, left = t->column * s->stride_w - s->pad_w;
  x += t->image * s->x_image + t->group * s->c * s->x_channel;
  for (i64 row = top; row < top + rows; row++, work += t->x_row)
    if (row < 0 || row >= s->h)
      memset(work, 0, t->x_row * sizeof(real));
    else
      copy_row(s, x + row * s->x_row, left, t->x_row / s->c, work);
}

/* to[i] = from[i] for at least LANES numbers: whole vectors, the last of which may overlap. */
INLINE void copy_vectors(real *to, const real *from, i64 length) {
  for (i64 i = 0; i < length - LANES; i += LANES) store(to + i, load(from + i));
  store(to + length - LANES, load(from + length - LANES));
}

/* Whether the taps of a row read one run of numbers. */
INLINE i64 is_together(const struct conv_last *s, const struct strip *t) {
  return s->step_w == 1 && t->x_column == s->c;
}

/* What the windows of a strip read with the rows of taps from p on, one window after another:
   to (windows, rows * q * c). */
static void gather_strip(const struct conv_last *s, const struct strip *t, i64 p, i64 rows,
                         real *to) {
  i64 together = is_together(s, t), taps = together ? 1 : s->q, length = s->q * s->c / taps;
  const real *x = t->x + p * s->step_h * t->x_row;
  for (i64 i = 0; i < t->lines; i++)
    for (i64 j = 0; j < t->columns; j++) {
      const real *from = x + i * s->stride_h * t->x_row + j * s->stride_w * t->x_column;
      for (i64 r = 0; r < rows; r++)
        for (i64 q = 0; q < taps; q++, to += length)
          copy_vectors(to, from + r * s->step_h * t->x_row + q * s->step_w * t->x_column, length);
    }
}

/* How a strip's windows lie, lines of windows side by side, and what each reads. */
struct windows {
  const real *x;
  i64 lines, columns, line_step, step, depth; /* depth: numbers a window reads */
  struct reach reach;
};

static struct windows windows_of(const struct conv_last *s, const struct strip *t) {
  i64 together = is_together(s, t);
  return (struct windows){
      t->x, t->lines, t->columns, s->stride_h * t->x_row, s->stride_w * t->x_column,
      s->p * s->q * s->c,
      {s->p, s->step_h * t->x_row, together ? 1 : s->q, s->step_w * t->x_column,
       together ? s->q * s->c : s->c, NULL}};
}

/* Where the results of a window stand, the windows counted through columns, lines and images. */
INLINE i64 place_of(const struct conv_last *s, i64 window) {
  if (s->y_row == 0) return window * s->pitch;
  i64 line = window / s->y_columns, column = window % s->y_columns;
  return line / s->y_lines * s->y_image + line % s->y_lines * s->y_row + column * s->pitch;
}

/* A tile of windows whose results do not lie at equal steps: computed beside y and copied. */
static void parted_tile(const struct conv_last *s, i64 window, i64 rows, i64 channel, i64 columns,
                        const struct reach *reach, const real *a, i64 line, const real *w, real *y,
                        const struct finish *finish) {
  real beside[TILE_ROWS * PANEL], others[TILE_ROWS * PANEL];
  struct finish here = finish_at(finish, channel, 0);
  for (i64 i = 0; i < rows && finish->other; i++)
    memcpy(others + i * PANEL, finish->other + place_of(s, window + i) + channel,
           columns * sizeof(real));
  if (finish->other) here.other = others;
  panel_tile(rows, columns, reach, a, line, w, beside, PANEL, &here);
  for (i64 i = 0; i < rows; i++)
    memcpy(y + place_of(s, window + i) + channel, beside + i * PANEL, columns * sizeof(real));
}

/* Piece g of line i of a strip's windows by the panel whose results begin at `first`. */
INLINE void strip_tile(const struct conv_last *s, const struct strip *t,
                       const struct windows *windows, i64 i, i64 g, const struct reach *reach,
                       const real *w, i64 first, real *y, const struct finish *finish) {
  i64 j = panel_row(windows->columns, g), rows = panel_row(windows->columns, g + 1) - j;
  i64 window = (t->image * s->grid_h + t->line + i) * s->grid_w + t->column + j;
  i64 channel = t->group * s->k + first, columns = min_i64(s->k - first, PANEL);
  const real *a = windows->x + i * windows->line_step + j * windows->step;
  if (s->y_row && window % s->y_columns + rows > s->y_columns) {
    parted_tile(s, window, rows, channel, columns, reach, a, windows->step, w, y, finish);
    return;
  }
  i64 offset = place_of(s, window) + channel;
  struct finish here = finish_at(finish, channel, offset);
  panel_tile(rows, columns, reach, a, windows->step, w, y + offset, s->pitch, &here);
}

/* All windows of a strip by one panel after another. w: of the first of `count` panels, `size`
   apart, whose results begin at `first`. */
static void panel_by_panel(const struct conv_last *s, const struct strip *t,
                           const struct windows *windows, const real *w, i64 size, i64 first,
                           i64 count, real *y, const struct finish *finish) {
  struct reach reach = windows->reach;
  for (i64 k = 0; k < count; k++, w += size, first += PANEL) {
    reach.next = w + size;
    for (i64 i = 0; i < windows->lines; i++)
      for (i64 g = 0; g < pieces(windows->columns, TILE_ROWS); g++) {
        strip_tile(s, t, windows, i, g, &reach, w, first, y, finish);
        reach.next += windows->depth * PANEL / 4;
        if (reach.next >= w + size + windows->depth * PANEL) reach.next = w + size; /* no farther */
      }
  }
}

/* The same, one tile of windows after another by all panels: y is written from front to back. The
   panels stay in the caches; each tile fetches a piece of what the windows after it read. */
static void tile_by_tile(const struct conv_last *s, const struct strip *t,
                         const struct windows *windows, const real *w, i64 size, i64 first,
                         i64 count, real *y, const struct finish *finish) {
  struct reach reach = windows->reach;
  for (i64 i = 0; i < windows->lines; i++)
    for (i64 g = 0; g < pieces(windows->columns, TILE_ROWS); g++)
      for (i64 k = 0; k < count; k++) {
        i64 ahead = panel_row(windows->columns, g + 1) * windows->step;
        reach.next = windows->x + i * windows->line_step + ahead;
        reach.next += k * TILE_ROWS * windows->step / count;
        strip_tile(s, t, windows, i, g, &reach, w + k * size, first + k * PANEL, y, finish);
      }
}

/* The panels from `from` to `till`; skip: numbers of each window that went before. */
static void strip_panels(const struct conv_last *s, const struct strip *t,
                         const struct windows *windows, const real *w, i64 skip, i64 from,
                         i64 till, real *y, const struct finish *finish) {
  i64 size = s->p * s->q * s->c * PANEL, panels = pieces(s->k, PANEL);
  i64 bytes = (till - from) * size * sizeof(real);
  i64 results = s->n * s->grid_h * s->grid_w * s->k * sizeof(real);
  i64 small = bytes <= NEAREST || (bytes <= NEAR && results > FAR);
  w += (t->group * panels + from) * size + skip * PANEL;
  (small ? tile_by_tile : panel_by_panel)(s, t, windows, w, size, from * PANEL, till - from, y,
                                          finish);
}

/* The same where what the windows read is gathered first, some rows of taps at a time: tiles then
   reach over the ends of lines, which short lines would leave half empty. */
static void gathered_panels(const struct conv_last *s, const struct strip *t, const real *w,
                            i64 from, i64 till, real *y, const struct finish *finish, int again,
                            real *work) {
  for (i64 p = 0, rows; p < s->p; p += rows) {
    rows = min_i64(s->gathers, s->p - p);
    i64 depth = rows * s->q * s->c;
    struct windows windows = {
        work, 1, t->lines * t->columns, 0, depth, depth, {1, 0, 1, 0, depth, NULL}};
    struct finish here = *finish;
    if (p > 0) here.bias = NULL, here.other = y; /* which holds the sums so far */
    here.clamped = finish->clamped && p + rows == s->p;
    if (!again) gather_strip(s, t, p, rows, work);
    strip_panels(s, t, &windows, w, p * s->q * s->c, from, till, y, &here);
  }
}

/* Whether what the windows of a strip read stays in scratch memory from share to share. */
INLINE int stays(const struct conv_last *s) { return !s->gathers || s->gathers == s->p; }

/* The panels of a share for the windows of strip i. again: the thread's task before was of it too,
   and left what the windows read in `work`. */
static void conv_task(const struct conv_last *s, const real *x, const real *w, i64 i, i64 share,
                      int again, real *y, const struct finish *finish, real *work) {
  i64 gathered = s->lines * s->columns * s->gathers * s->q * s->c;
  i64 from = share * s->panels, till = min_i64(pieces(s->k, PANEL), from + s->panels);
  struct strip t = strip_of(s, i);
  if (again)
    point_strip(s, x, &t, work + gathered);
  else
    read_strip(s, x, &t, work + gathered);
  if (s->gathers) {
    gathered_panels(s, &t, w, from, till, y, finish, again && stays(s), work);
  } else {
    struct windows windows = windows_of(s, &t);
    strip_panels(s, &t, &windows, w, 0, from, till, y, finish);
  }
}

/* How many strips go through one share before they go through the next: its weights stay in the
   caches. Where what they read stays there it is one, unless there are many and nothing to copy. */
static i64 span_of(const struct conv_last *s, i64 strips) {
  if (!stays(s)) return strips;
  return s->copies || s->gathers || strips < 4 * s->threads ? 1 : pieces(strips, s->threads);
}

/* y = clamp(w * x + b + other, low, high); y and other are channels-last */
void KERNEL(conv_last)(const real *x, const real *w, const real *b, const real *other, real *y,
                       const i64 *shape, const real *range, real *work) {
  const struct conv_last *s = (const struct conv_last *)shape;
  struct finish finish = finish_of(b, other, range);
  i64 shares = pieces(pieces(s->k, PANEL), s->panels), strips = s->n * s->groups;
  strips *= pieces(s->grid_h, s->lines) * pieces(s->grid_w, s->columns);
  i64 span = span_of(s, strips);
  struct queues queues;
  fill_queues(&queues, s->threads, strips * shares);
#pragma omp parallel num_threads(s->threads)
  {
    real *mine = work + omp_get_thread_num() * s->work;
    for (i64 task, ended = 0, last = -1; (task = next_task(&queues, &ended)) >= 0;) {
      i64 first = task / (span * shares) * span, count = min_i64(span, strips - first);
      i64 strip = first + (task - first * shares) % count;
      i64 share = (task - first * shares) / count;
      conv_task(s, x, w, strip, share, strip == last, y, &finish, mine);
      last = strip;
    }
  }
}
