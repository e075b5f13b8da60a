/* Depthwise convolution of what a 1 x 1 convolution gives, which is never whole in memory: some
   channels of some rows of it at a time, that stay in the second-level cache. Rows that two strips
   read are computed twice. */

struct expanded {
  struct conv_last s;      /* the depthwise convolution, of rows and columns that lie in scratch */
  i64 depth, chunk;        /* channels of x, and of what is computed at a time */
};

/* A task: an image, its lines of results and the channels from `channel` on. */
struct piece {
  i64 image, line, till, channel, channels;
  i64 row, rows; /* of the image, which these lines read */
};

static struct piece piece_of(const struct expanded *e, i64 task) {
  const struct conv_last *s = &e->s;
  i64 chunks = pieces(s->c, e->chunk), down = pieces(s->grid_h, s->lines);
  struct piece t = {.channel = task % chunks * e->chunk};
  task /= chunks;
  t.image = task / down, t.line = task % down * s->lines;
  t.till = min_i64(t.line + s->lines, s->grid_h);
  t.channels = min_i64(e->chunk, s->c - t.channel);
  t.row = max_i64(0, t.line * s->stride_h - s->pad_h);
  i64 end = (t.till - 1) * s->stride_h - s->pad_h + (s->p - 1) * s->step_h + 1;
  t.rows = max_i64(0, min_i64(s->h, end) - t.row);
  return t;
}

/* to (pixels, chunk) = clamp(w x + b) for the pixels and channels of a task */
static void expand(const struct expanded *e, const struct piece *t, const real *x, const real *w,
                   const struct finish *finish, real *to) {
  const struct conv_last *s = &e->s;
  i64 pixels = t->rows * s->w, panels = pieces(t->channels, PANEL);
  x += (t->image * s->h + t->row) * s->w * e->depth;
  w += t->channel * e->depth;
  for (i64 g = 0; g < pieces(pixels, TILE_ROWS); g++) {
    i64 row = panel_row(pixels, g), rows = panel_row(pixels, g + 1) - row;
    for (i64 k = 0; k < panels; k++) {
      const real *panel = w + k * e->depth * PANEL;
      struct reach reach = {1, 0, 1, 0, e->depth, panel};
      struct finish here = finish_at(finish, t->channel + k * PANEL, 0);
      panel_tile(rows, min_i64(t->channels - k * PANEL, PANEL), &reach, x + row * e->depth,
                 e->depth, panel, to + row * e->chunk + k * PANEL, e->chunk, &here);
    }
  }
}

/* y = clamp(taps * clamp(w x + b) + last_b): w (k, depth) in panels, taps (p, q, k) */
void KERNEL(expanded_last)(const real *x, const real *w, const real *b, const real *taps,
                           const real *last_b, real *y, const i64 *shape, const real *range,
                           const real *last_range, real *work) {
  const struct expanded *e = (const struct expanded *)shape;
  const struct conv_last *s = &e->s;
  struct finish first = finish_of(b, NULL, range), last = finish_of(last_b, NULL, last_range);
  i64 tasks = s->n * pieces(s->grid_h, s->lines) * pieces(s->c, e->chunk);
#pragma omp parallel for schedule(dynamic) num_threads(s->threads)
  for (i64 task = 0; task < tasks; task++) {
    struct piece t = piece_of(e, task);
    real *mine = work + omp_get_thread_num() * s->work;
    expand(e, &t, x, w, &first, mine);
    i64 start = t.image * s->grid_h * s->grid_w * s->c;
    for (i64 line = t.line; line < t.till; line++)
      depthwise_line_in_runs(s, mine - t.row * s->x_row - t.channel, taps, line,
                             t.channel / LANES, (t.channel + t.channels) / LANES, y + start, &last);
  }
}
