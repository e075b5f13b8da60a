/* Recurrent layers over all steps of a sequence, one layer in one direction.

   The gates of a step are the product of the state before it with W_hh, which is packed once for
   all steps; the state is read in place. Rows are cut into panels, units into blocks of PANEL. The
   packed panels of W_hh are met in the order in which they lie, each by all rows of the thread
   while it is in the first cache and the next one is fetched; then the arithmetic of the gates
   follows for the block. Rows know nothing of each other, so each thread takes rows of its own
   through all steps and waits for nobody; only when rows are few the threads share the units, with
   a barrier after each step. */
#include "exponential.h"
#include "panels.h"

enum cell { LSTM, GRU, RNN_TANH, RNN_RELU };

enum {
  ROWS_OF_A_THREAD = 4, /* with fewer the threads share the units */
  STEP_DEPTH = 256      /* of a panel of W_hh in one go */
};

struct recurrence {
  i64 cell, gates, n, h, panels;
  i64 depth; /* of the product of one step */
  int by_rows;
  real *right; /* W_hh, packed */
};

/* A part of one step: rows `row` to row + rows, units `unit` to unit + units. */
struct part {
  i64 panel, row, rows, block, unit, units;
};

/* The parts of one thread. */
struct share {
  i64 panel, panel_end, block, block_end;
};

static struct recurrence recurrence_of(i64 cell, i64 n, i64 h, i64 backward, i64 threads,
                                       real *work) {
  i64 gates = cell == LSTM ? 4 : cell == GRU ? 3 : 1, depth = backward ? gates * h : h;
  int by_rows = n >= threads * ROWS_OF_A_THREAD;
  i64 panels = by_rows ? pieces(pieces(n, TILE_ROWS), threads) * threads : pieces(n, TILE_ROWS);
  return (struct recurrence){cell, gates, n, h, panels, depth, by_rows, work};
}

/* The numbers of work that `recurrent` (backward 0) or `recurrent_backward` (1) needs. */
i64 KERNEL(recurrent_work)(const real *x, i64 n, i64 h, i64 cell, i64 threads, i64 backward) {
  struct recurrence r = recurrence_of(cell, n, h, backward, threads, NULL);
  return r.gates * h * pieces(h, PANEL) * PANEL;
}

INLINE struct share share_of(const struct recurrence *r) {
  i64 count = omp_get_num_threads(), id = omp_get_thread_num();
  i64 blocks = pieces(r->h, PANEL), panels = r->panels;
  return r->by_rows ? (struct share){panels * id / count, panels * (id + 1) / count, 0, blocks}
                    : (struct share){0, panels, blocks * id / count, blocks * (id + 1) / count};
}

INLINE struct part part_of(const struct recurrence *r, i64 panel, i64 block) {
  i64 row = r->n * panel / r->panels, unit = block * PANEL;
  return (struct part){panel, row,  r->n * (panel + 1) / r->panels - row,
                       block, unit, min_i64(r->h - unit, PANEL)};
}

/* c (n, units; rows `pitch` apart) = or += left (n, depth) times one packed panel of W_hh, for the
   rows of a share. A few rows of depth at a time, which stay in the first cache. */
static void block_product(const struct recurrence *r, const struct share *own, i64 block,
                          const real *left, i64 panel, real *c, i64 pitch, int add) {
  i64 terms = pieces(r->depth, pieces(r->depth, STEP_DEPTH));
  const real *right = r->right + panel * r->depth * PANEL;
  for (i64 k = 0; k < r->depth; k += terms) {
    i64 length = min_i64(terms, r->depth - k);
    struct reach reach = {1, 0, 1, 0, length, right + (k + length) * PANEL};
    for (i64 i = own->panel; i < own->panel_end; i++) {
      struct part p = part_of(r, i, block);
      real *to = c + p.row * pitch + p.unit;
      struct finish finish = finish_of(NULL, add || k ? to : NULL, NULL);
      if (p.rows > 0)
        panel_tile(p.rows, p.units, &reach, left + p.row * r->depth + k, r->depth,
                   right + k * PANEL, to, pitch, &finish);
      reach.next += length / 4 * PANEL;
    }
  }
}

/* The place of a step in an array of all steps, which may be missing. */
INLINE const real *step_of(const real *x, i64 t, i64 size) { return x ? x + t * size : NULL; }

/* What one step reads and writes; pointers to its first row. */
struct step {
  real *gates, *hidden, *y, *c;
  const real *h0, *c0, *b, *b_hidden;
};

INLINE void lstm_cell(struct step s, struct part p, i64 h) {
  for (i64 row = p.row; row < p.row + p.rows; row++) {
    real *i = s.gates + row * 4 * h + p.unit, *f = i + h, *g = f + h, *o = g + h;
    const real *b = s.b + p.unit, *c0 = s.c0 + row * h + p.unit;
    real *c = s.c + row * h + p.unit, *y = s.y + row * h + p.unit;
#pragma omp simd
    for (i64 j = 0; j < p.units; j++) {
      real in = logistic(i[j] + b[j]), forget = logistic(f[j] + b[h + j]);
      real value = hyperbolic_tangent(g[j] + b[2 * h + j]);
      real out = logistic(o[j] + b[3 * h + j]), now = forget * c0[j] + in * value;
      i[j] = in;
      f[j] = forget;
      g[j] = value;
      o[j] = out;
      c[j] = now;
      y[j] = out * hyperbolic_tangent(now);
    }
  }
}

INLINE void gru_cell(struct step s, struct part p, i64 h) {
  for (i64 row = p.row; row < p.row + p.rows; row++) {
    real *r = s.gates + row * 3 * h + p.unit, *z = r + h, *g = z + h;
    real *hidden = s.hidden + row * h + p.unit, *y = s.y + row * h + p.unit;
    const real *b = s.b + p.unit, *b_hidden = s.b_hidden + p.unit;
    const real *h0 = s.h0 + row * h + p.unit;
#pragma omp simd
    for (i64 j = 0; j < p.units; j++) {
      real reset = logistic(r[j] + b[j]), keep = logistic(z[j] + b[h + j]);
      real inner = hidden[j] + b_hidden[j];
      real value = hyperbolic_tangent(g[j] + b[2 * h + j] + reset * inner);
      r[j] = reset;
      z[j] = keep;
      g[j] = value;
      hidden[j] = inner;
      y[j] = value + keep * (h0[j] - value);
    }
  }
}

INLINE void rnn_cell(struct step s, struct part p, i64 h, int relu) {
  for (i64 row = p.row; row < p.row + p.rows; row++) {
    const real *b = s.b + p.unit;
    real *y = s.y + row * h + p.unit;
    if (relu) {
#pragma omp simd
      for (i64 j = 0; j < p.units; j++) y[j] = y[j] + b[j] < 0 ? 0 : y[j] + b[j];
    } else {
#pragma omp simd
      for (i64 j = 0; j < p.units; j++) y[j] = hyperbolic_tangent(y[j] + b[j]);
    }
  }
}

/* A block of units of one step, for the rows of a share. */
static void forward_block(const struct recurrence *r, const struct share *own, i64 block,
                          struct step s) {
  i64 h = r->h, wide = r->gates * h;
  for (i64 gate = 0; gate < r->gates; gate++) {
    int apart = r->cell == GRU && gate == 2; /* the reset gate weighs this product alone */
    block_product(r, own, block, s.h0, block * r->gates + gate,
                  apart ? s.hidden : s.gates + gate * h, apart ? h : wide, !apart);
  }
  for (i64 panel = own->panel; panel < own->panel_end; panel++) {
    struct part p = part_of(r, panel, block);
    if (r->cell == LSTM)
      lstm_cell(s, p, h);
    else if (r->cell == GRU)
      gru_cell(s, p, h);
    else
      rnn_cell(s, p, h, r->cell == RNN_RELU);
  }
}

/* gates (steps, n, g h): W_ih x, becomes the gates; y (steps, n, h) is the same array for an RNN.
   b (g h,): both biases, without the GRU's b_hidden (h,); c, c0: LSTM; hidden: GRU. */
void KERNEL(recurrent)(const real *h0, const real *c0, const real *w, const real *b,
                       const real *b_hidden, real *gates, real *hidden, real *y, real *c, i64 cell,
                       i64 steps, i64 n, i64 h, i64 reverse, i64 threads, real *work) {
  const struct recurrence r = recurrence_of(cell, n, h, 0, threads, work);
  i64 plane = n * h, wide = r.gates * plane, blocks = pieces(h, PANEL);
#pragma omp parallel num_threads(threads)
  {
    struct share own = share_of(&r);
#pragma omp for schedule(static)
    for (i64 panel = 0; panel < blocks * r.gates; panel++) {
      i64 unit = panel / r.gates * PANEL, row = panel % r.gates * h + unit;
      pack_right((struct matrix){w + row * h, 1, h}, min_i64(h - unit, PANEL), h,
                 r.right + panel * h * PANEL);
    }
    for (i64 step = 0; step < steps; step++) {
      i64 t = reverse ? steps - 1 - step : step, before = reverse ? t + 1 : t - 1;
      struct step s = {.gates = gates + t * wide, .hidden = (real *)step_of(hidden, t, plane),
                       .y = y + t * plane, .c = (real *)step_of(c, t, plane), .b = b,
                       .b_hidden = b_hidden, .h0 = step ? y + before * plane : h0,
                       .c0 = step ? step_of(c, before, plane) : c0};
      for (i64 block = own.block; block < own.block_end; block++) forward_block(&r, &own, block, s);
      if (!r.by_rows) {
#pragma omp barrier
      }
    }
  }
}

/* What one step of the way back reads and writes. dh, dc (n, h) are carried from step to step. */
struct step_back {
  const real *h0, *c0, *y, *c, *gates, *hidden, *dy;
  real *dh, *dc, *da, *da_hidden;
};

INLINE void lstm_back(struct step_back s, struct part p, i64 h) {
  for (i64 row = p.row; row < p.row + p.rows; row++) {
    i64 at = row * h + p.unit, wide = row * 4 * h + p.unit;
    const real *i = s.gates + wide, *f = i + h, *g = f + h, *o = g + h;
    const real *c = s.c + at, *c0 = s.c0 + at, *dy = s.dy + at, *dh = s.dh + at;
    real *dc = s.dc + at, *di = s.da + wide, *df = di + h, *dg = df + h, *dout = dg + h;
#pragma omp simd
    for (i64 j = 0; j < p.units; j++) {
      real in = i[j], forget = f[j], value = g[j], out = o[j];
      real squashed = hyperbolic_tangent(c[j]), d = dh[j] + dy[j];
      real dnow = dc[j] + d * out * (1 - squashed * squashed);
      di[j] = dnow * value * in * (1 - in);
      df[j] = dnow * c0[j] * forget * (1 - forget);
      dg[j] = dnow * in * (1 - value * value);
      dout[j] = d * squashed * out * (1 - out);
      dc[j] = dnow * forget;
    }
  }
}

INLINE void gru_back(struct step_back s, struct part p, i64 h) {
  for (i64 row = p.row; row < p.row + p.rows; row++) {
    i64 at = row * h + p.unit, wide = row * 3 * h + p.unit;
    const real *r = s.gates + wide, *z = r + h, *g = z + h;
    const real *hidden = s.hidden + at, *h0 = s.h0 + at, *dy = s.dy + at;
    real *dh = s.dh + at, *da = s.da + wide, *da_hidden = s.da_hidden + wide;
#pragma omp simd
    for (i64 j = 0; j < p.units; j++) {
      real reset = r[j], keep = z[j], value = g[j], d = dh[j] + dy[j];
      real dvalue = d * (1 - keep) * (1 - value * value);
      real dreset = dvalue * hidden[j] * reset * (1 - reset);
      real dkeep = d * (h0[j] - value) * keep * (1 - keep);
      da[j] = da_hidden[j] = dreset;
      da[h + j] = da_hidden[h + j] = dkeep;
      da[2 * h + j] = dvalue;
      da_hidden[2 * h + j] = dvalue * reset;
      dh[j] = d * keep;
    }
  }
}

INLINE void rnn_back(struct step_back s, struct part p, i64 h, int relu) {
  for (i64 row = p.row; row < p.row + p.rows; row++) {
    i64 at = row * h + p.unit;
    const real *y = s.y + at, *dy = s.dy + at, *dh = s.dh + at;
    real *da = s.da + at;
#pragma omp simd
    for (i64 j = 0; j < p.units; j++) {
      real slope = relu ? y[j] > 0 : 1 - y[j] * y[j];
      da[j] = (dh[j] + dy[j]) * slope;
    }
  }
}

/* A block of dh from the gradients of the gates one step later, for the rows of a share. */
static void state_back(const struct recurrence *r, const struct share *own, i64 block, real *dh,
                       const real *later) {
  block_product(r, own, block, later, block, dh, r->h, r->cell == GRU);
}

/* A block of units of one step; later: the gradients of the gates one step later, or NULL. */
static void backward_block(const struct recurrence *r, const struct share *own, i64 block,
                           struct step_back s, const real *later) {
  i64 h = r->h;
  if (later) state_back(r, own, block, s.dh, later);
  for (i64 panel = own->panel; panel < own->panel_end; panel++) {
    struct part p = part_of(r, panel, block);
    if (r->cell == LSTM)
      lstm_back(s, p, h);
    else if (r->cell == GRU)
      gru_back(s, p, h);
    else
      rnn_back(s, p, h, r->cell == RNN_RELU);
  }
}

/* dh, dc (n, h): of the last state, become those of the first. da (steps, n, g h): the gradients
   of W_ih x; da_hidden: of W_hh h, for a GRU, where they differ. */
void KERNEL(recurrent_backward)(const real *h0, const real *c0, const real *w, const real *y,
                                const real *c, const real *gates, const real *hidden,
                                const real *dy, real *dh, real *dc, real *da, real *da_hidden,
                                i64 cell, i64 steps, i64 n, i64 h, i64 reverse, i64 threads,
                                real *work) {
  const struct recurrence r = recurrence_of(cell, n, h, 1, threads, work);
  i64 plane = n * h, wide = r.gates * plane, blocks = pieces(h, PANEL);
#pragma omp parallel num_threads(threads)
  {
    struct share own = share_of(&r);
    const real *later = NULL; /* the gradients of the gates that W_hh makes, one step later */
#pragma omp for schedule(static)
    for (i64 block = 0; block < blocks; block++)
      pack_right((struct matrix){w + block * PANEL, h, 1},
                 min_i64(h - block * PANEL, PANEL), r.depth,
                 r.right + block * r.depth * PANEL);
    for (i64 step = 0; step < steps; step++) {
      i64 t = reverse ? step : steps - 1 - step, before = reverse ? t + 1 : t - 1;
      int first = step == steps - 1; /* of the way forward: before it are h0 and c0 */
      struct step_back s = {.h0 = first ? h0 : y + before * plane,
                            .c0 = first ? c0 : step_of(c, before, plane),
                            .y = y + t * plane, .c = step_of(c, t, plane), .dy = dy + t * plane,
                            .gates = step_of(gates, t, wide), .dh = dh, .dc = dc,
                            .hidden = step_of(hidden, t, plane), .da = da + t * wide,
                            .da_hidden = (real *)step_of(da_hidden, t, wide)};
      for (i64 block = own.block; block < own.block_end; block++)
        backward_block(&r, &own, block, s, later);
      later = r.cell == GRU ? s.da_hidden : s.da;
      if (!r.by_rows) {
#pragma omp barrier
      }
    }
    for (i64 block = own.block; block < own.block_end; block++)
      state_back(&r, &own, block, dh, later);
  }
}
