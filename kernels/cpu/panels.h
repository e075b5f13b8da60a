/* Rows of numbers times a packed panel of weights: the arithmetic of channels-last convolutions.

   The weights of 2 * LANES results lie together as a panel [depth][2 * LANES]. A tile of up to
   TILE_ROWS windows by one panel stays in registers; what the windows read is read in place.
   Source: Goto and van de Geijn, Anatomy of high-performance matrix multiplication, 2008. */
#pragma once
#include "multiply.h"

enum { PANEL = 2 * LANES };

/* What a window reads: rows * columns runs of `length` numbers, beginning at its first number.
   next: the panel that will be wanted after this one; tiles fetch it while they compute, a piece
   each, because weights that are read once come from memory: a quarter of the numbers that they
   multiply by, and so much more for each of `more`. */
struct reach {
  i64 rows, row_step, columns, column_step, length;
  const real *next;
  i64 more;
};

/* What becomes of the sums: y = clamp(sums + bias + other, low, high); bias, other may be NULL. */
struct finish {
  const real *bias, *other;
  int clamped;
  real low, high;
};

/* The finish for the tile whose first channel is `channel` and whose y begins at `offset`. */
INLINE struct finish finish_at(const struct finish *all, i64 channel, i64 offset) {
  struct finish here = *all;
  if (here.bias) here.bias += channel;
  if (here.other) here.other += offset;
  return here;
}

/* range: NULL, or low and high */
INLINE struct finish finish_of(const real *bias, const real *other, const real *range) {
  return (struct finish){bias, other, range != NULL, range ? range[0] : 0, range ? range[1] : 0};
}

/* Row i of a tile is addressed from one of three pointers, five rows apart, by a multiple of the
   line that an address can hold: so many pointers leave no register to spill. */
struct rows {
  const char *at[3];
  i64 line, three;
};

enum { ROWS_APART = 5 };

INLINE real element(const struct rows *a, const int i, const int k) {
  const char *at = a->at[i / ROWS_APART] + k * sizeof(real);
  switch (i % ROWS_APART) {
    case 0: return *(const real *)at;
    case 1: return *(const real *)(at + a->line);
    case 2: return *(const real *)(at + 2 * a->line);
    case 3: return *(const real *)(at + a->three);
    default: return *(const real *)(at + 4 * a->line);
  }
}

/* The compiler would load a panel's vectors anew for every row, as an operand of each product, and
   keep an address for every row: with values that it cannot see through it does neither. */
#if defined(__x86_64__)
#define OPAQUE_VECTOR(v) __asm__("" : "+v"(v))
#define OPAQUE(v) __asm__("" : "+r"(v))
#elif defined(__aarch64__)
#define OPAQUE_VECTOR(v) __asm__("" : "+w"(v))
#define OPAQUE(v) __asm__("" : "+r"(v))
#else
#define OPAQUE_VECTOR(v)
#define OPAQUE(v)
#endif

/* sum += a b for `count` steps, written out */
INLINE void steps(const int rows, const int vectors, const int count, struct rows *a,
                  const real **b, vec sum[][2]) {
#pragma GCC unroll 4
  for (int k = 0; k < count; k++) {
    vec right[2];
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) {
      right[j] = load(*b + k * PANEL + j * LANES);
      OPAQUE_VECTOR(right[j]);
    }
    OPAQUE(a->line);
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
      vec left = broadcast(element(a, i, k));
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) MULTIPLY_ADD(sum[i][j], left, right[j]);
    }
  }
#pragma GCC unroll 3
  for (int g = 0; g <= (rows - 1) / ROWS_APART; g++) {
    a->at[g] += count * sizeof(real);
    OPAQUE(a->at[g]);
  }
  *b += count * PANEL;
  OPAQUE(*b);
}

/* Sums, with the bias in them, within the bounds. */
INLINE vec within(vec v, const struct finish *finish) {
  return SMALLER(broadcast(finish->high), GREATER(broadcast(finish->low), v));
}

/* One vector of sums, of which `count` numbers are there, to its place in y. The bias is in it. */
INLINE void finish_vector(vec v, i64 place, i64 count, real *y, const struct finish *finish) {
  if (finish->other) {
    real other[LANES];
    if (count == LANES) {
      v += load(finish->other + place);
    } else {
      memcpy(other, finish->other + place, count * sizeof(real));
      v += load(other);
    }
  }
  if (finish->clamped) v = within(v, finish);
  if (count == LANES)
    store(y + place, v);
  else
    memcpy(y + place, &v, count * sizeof(real));
}

/* The same for the sums of a tile. */
INLINE void finish_tile(const int rows, const int vectors, vec sum[][2], real *y, i64 pitch,
                        const struct finish *finish) {
  if (finish->other)
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) sum[i][j] += load(finish->other + i * pitch + j * LANES);
  if (finish->clamped)
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
      for (int j = 0; j < vectors; j++) sum[i][j] = within(sum[i][j], finish);
#pragma GCC unroll 16
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
    for (int j = 0; j < vectors; j++) store(y + i * pitch + j * LANES, sum[i][j]);
}

/* What tiles fetch beside weights, a few lines at a time, for all together would bar the way for what they
   read: the rows they will add, and the places of as many rows after theirs. */
struct targets {
  const real *other, *next;
  i64 rows; /* so many are still to be fetched */
};

INLINE void fetch_targets(struct targets *p, const int vectors, i64 pitch) {
  fetch_to_read(p->other, vectors);
  fetch_to_write(p->next, vectors);
  if (--p->rows > 0) p->other += pitch, p->next += pitch;
}

/* A tile: a is what its first window reads first, `line` what its windows stand apart. near: y and what
   is added are in the caches. */
INLINE void tile_rows(const int rows, const int vectors, const struct reach *reach, const real *a,
                      i64 line, const real *b, real *y, i64 pitch, const struct finish *finish,
                      const int near) {
  vec sum[TILE_ROWS][2];
#pragma GCC unroll 2
  for (int j = 0; j < vectors; j++) {
    vec first = finish->bias ? load(finish->bias + j * LANES) : (vec){0};
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) sum[i][j] = first;
  }
  const real *next = reach->next;
  struct targets targets = {finish->other ? finish->other : y, y + rows * pitch, rows};
  i64 turns = reach->rows * reach->columns * (reach->length / 4);
  while (!near && targets.rows > turns) fetch_targets(&targets, vectors, pitch);
  for (i64 p = 0; p < reach->rows; p++)
    for (i64 q = 0; q < reach->columns; q++) {
      const char *at = (const char *)(a + p * reach->row_step + q * reach->column_step);
      i64 apart = line * sizeof(real), far = ROWS_APART * apart;
      struct rows left = {{at, at + far, at + 2 * far}, apart, 3 * apart};
      i64 k = reach->length;
      for (; k >= 4; k -= 4, next += PANEL) {
        fetch(next, PANEL);
        if (!near) fetch_targets(&targets, vectors, pitch);
        for (i64 more = reach->more; more > 0; more--) fetch(next += PANEL, PANEL);
        steps(rows, vectors, 4, &left, &b, sum);
      }
      for (; k > 0; k--) steps(rows, vectors, 1, &left, &b, sum);
    }
  finish_tile(rows, vectors, sum, y, pitch, finish);
}

/* The tile of so many rows and vectors. */
static void whole_tile(i64 rows, i64 vectors, const struct reach *reach, const real *a, i64 line,
                       const real *b, real *y, i64 pitch, const struct finish *finish) {
#define CASE(r)                                                                         \
  case 2 * r: tile_rows(r, 1, reach, a, line, b, y, pitch, finish, 0); return;          \
  case 2 * r + 1: tile_rows(r, 2, reach, a, line, b, y, pitch, finish, 0); return;
  switch (2 * rows + vectors - 1) { EACH_HEIGHT(CASE) }
#undef CASE
}

/* The same for any number of columns: an incomplete tile is computed beside y and copied. */
static void panel_tile(i64 rows, i64 columns, const struct reach *reach, const real *a, i64 line,
                       const real *b, real *y, i64 pitch, const struct finish *finish) {
  i64 vectors = pieces(columns, LANES);
  if (columns == vectors * LANES) {
    whole_tile(rows, vectors, reach, a, line, b, y, pitch, finish);
    return;
  }
  real beside[TILE_ROWS * PANEL], others[TILE_ROWS * PANEL], bias[PANEL];
  struct finish local = *finish;
  size_t bytes = columns * sizeof(real);
  if (finish->bias) local.bias = memcpy(bias, finish->bias, bytes);
  if (finish->other) {
    local.other = others;
    for (i64 i = 0; i < rows; i++)
      memcpy(others + i * PANEL, finish->other + i * pitch, bytes);
  }
  whole_tile(rows, vectors, reach, a, line, b, beside, PANEL, &local);
  for (i64 i = 0; i < rows; i++) memcpy(y + i * pitch, beside + i * PANEL, bytes);
}
