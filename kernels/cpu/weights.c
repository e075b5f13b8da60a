/* Weights of convolutions: packed into panels, and recognised when they have changed. */
#include "panels.h"

typedef uint64_t u64;

/* The hash of some bytes. Each step is invertible in the state and in the word, so that one
   changed word always changes the result; the shift carries high bits down to where the next
   product spreads them. Eight states hide the latency of the products. */
static u64 hash_block(const char *from, i64 bytes, u64 seed) {
  enum { STATES = 8 };
  const u64 factor = 0x9E3779B97F4A7C15;
  u64 state[STATES], word;
  for (int l = 0; l < STATES; l++) state[l] = seed + l * factor;
  for (; bytes >= STATES * 8; bytes -= STATES * 8, from += STATES * 8)
#pragma GCC unroll 8
    for (int l = 0; l < STATES; l++) {
      memcpy(&word, from + l * 8, 8);
      state[l] = (state[l] ^ word) * factor;
      state[l] ^= state[l] >> 29;
    }
  u64 hash = seed;
  for (int l = 0; l < STATES; l++) hash = (hash ^ state[l]) * factor, hash ^= hash >> 32;
  for (; bytes > 0; bytes -= 8, from += 8) {
    word = 0;
    memcpy(&word, from, min_i64(bytes, 8));
    hash = (hash ^ word) * factor, hash ^= hash >> 29;
  }
  return hash;
}

/* A hash of n numbers; work: one i64 for each HASHED bytes. The same for any number of threads. */
i64 KERNEL(fingerprint)(const real *w, i64 n, i64 *work, i64 hashed) {
  i64 bytes = n * sizeof(real), blocks = pieces(bytes, hashed);
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 i = 0; i < blocks; i++)
    work[i] = (i64)hash_block((const char *)w + i * hashed, min_i64(hashed, bytes - i * hashed), i);
  return (i64)hash_block((const char *)work, blocks * sizeof(i64), n);
}

/* Weights as panels [depth][PANEL]: result o, source i, tap t stand at
   w[first + o * out + i * in + t * tap]; depth is the pair (t, i). Results that are not there are zeros. */
struct packing {
  i64 groups, outs, ins, taps; /* in a group */
  i64 group, out, in, tap;      /* strides */
  i64 first;
};

enum { SOURCES = 16 }; /* that are packed in one go: a multiple of LANES */

/* LANES results from o on, of LANES pairs (i, t) that lie together, transposed in registers. */
static void pack_lanes(const struct packing *s, const real *w, i64 pair, i64 lines, real *to) {
  vec v[LANES];
#pragma GCC unroll 16
  for (i64 l = 0; l < LANES; l++)
    v[l] = l < lines ? load(w + l * s->out + pair) : (vec){0};
  transpose(v);
  i64 i = pair / s->taps, t = pair % s->taps;
  for (i64 l = 0; l < LANES; l++) {
    store(to + (t * s->ins + i) * PANEL, v[l]);
    if (++t == s->taps) t = 0, i++;
  }
}

/* LANES results from o on, of the first `taps` taps of source i, which lie together in reverse. Whole
   vectors are read from the last tap on: up to LANES - taps numbers after the first tap. */
static void pack_reversed(const struct packing *s, const real *w, i64 i, i64 taps, real *to) {
  vec v[LANES];
#pragma GCC unroll 16
  for (i64 l = 0; l < LANES; l++) v[l] = load(w + l * s->out + i * s->in - (taps - 1));
  transpose(v);
  for (i64 l = 0; l < taps; l++) store(to + ((taps - 1 - l) * s->ins + i) * PANEL, v[l]);
}

/* Half a panel: LANES results of a group from `first` on, of the sources from i to `end`. w: where
   the group starts. Results that are not there become zeros. */
static void pack_half(const struct packing *s, const real *w, i64 first, i64 i, i64 end, real *to) {
  i64 lines = min_i64(max_i64(s->outs - first, 0), LANES);
  w += min_i64(first, s->outs - 1) * s->out;
  i64 pairs = end * s->taps, pair = i * s->taps, whole = lines == LANES;
  if (s->tap == 1 && s->in == s->taps)
    for (; pair + LANES <= pairs; pair += LANES) pack_lanes(s, w, pair, lines, to);
  i64 reversed = whole && s->tap == -1 ? min_i64(s->taps, LANES) : 0, t = pair % s->taps;
  int more = (s->outs - first - LANES) * s->taps >= LANES - reversed; /* is in this source */
  for (i = pair / s->taps; i < end; i++, t = 0) {
    if (reversed > 1 && (more || i + 1 < s->ins))
      pack_reversed(s, w, i, reversed, to), t = reversed;
    for (; t < s->taps; t++) {
      const real *from = w + i * s->in + t * s->tap;
      real *at = to + (t * s->ins + i) * PANEL;
      if (whole && s->out == 1)
        store(at, load(from));
      else
        for (i64 l = 0; l < LANES; l++) at[l] = l < lines ? from[l * s->out] : 0;
    }
  }
}

/* Some panels of results of a group from `first` on. Both halves of all of them for a few sources
   at a time, so that whole lines of the cache are read and written, several one after another. */
static void pack_panels(const struct packing *s, const real *w, i64 first, i64 panels, real *to) {
  i64 size = s->ins * s->taps * PANEL, whole = 0;
  if (s->taps == 1 && s->out == 1) {
    whole = min_i64(panels, (s->outs - first) / PANEL);
    pack_right((struct matrix){w + first, s->in, 1}, whole * PANEL, s->ins, to);
  }
  first += whole * PANEL, panels -= whole, to += whole * size;
  for (i64 i = 0; i < s->ins && panels > 0; i += SOURCES)
    for (i64 half = 0; half < 2 * panels; half++)
      pack_half(s, w, first + half * LANES, i, min_i64(i + SOURCES, s->ins),
                to + half / 2 * size + half % 2 * LANES);
}

/* to (groups, panels, taps, ins, PANEL) */
void KERNEL(pack_weights)(const real *w, real *to, const i64 *shape) {
  enum { MOST = 8, TASKS = 8 };
  const struct packing *s = (const struct packing *)shape;
  i64 panels = pieces(s->outs, PANEL), depth = s->ins * s->taps;
  i64 each = s->out == 1 ? min_i64(MOST, pieces(panels, TASKS)) : 1, tasks = pieces(panels, each);
#pragma omp parallel for schedule(static) if (s->groups * s->outs * depth > PARALLEL_ABOVE)
  for (i64 task = 0; task < s->groups * tasks; task++) {
    i64 group = task / tasks, panel = task % tasks * each;
    pack_panels(s, w + s->first + group * s->group, panel * PANEL, min_i64(each, panels - panel),
              to + (group * panels + panel) * depth * PANEL);
  }
}

/* Where a tap goes: the first panel of its part, after so many rows, and the size of such panels. */
struct tap_place {
  i64 at, size; /* at < 0: nowhere */
};

/* Half a panel of one source: LANES results, of which `lines` are there, with all taps. to: the
   first panel of a part begins at to[0]. room: how many numbers there are from w on. */
static void part_half(const struct tap_place *places, i64 taps, const real *w, i64 lines, i64 room,
                      i64 panel, real *to) {
  vec v[LANES];
  i64 t = 0;
  for (; taps - t > LANES / 2; t += LANES) { /* the last vector may read on beyond the taps */
    if ((lines - 1) * taps + t + LANES > room) break;
#pragma GCC unroll 16
    for (i64 l = 0; l < LANES; l++) v[l] = l < lines ? load(w + l * taps + t) : (vec){0};
    transpose(v);
    for (i64 l = 0; l < min_i64(LANES, taps - t); l++) {
      const struct tap_place p = places[t + l];
      if (p.at >= 0) store(to + p.at + panel * p.size, v[l]);
    }
  }
  for (; t < taps; t++) {
    const struct tap_place p = places[t];
    real *at = to + p.at + panel * p.size;
    for (i64 l = 0; l < LANES && p.at >= 0; l++) at[l] = l < lines ? w[l * taps + t] : 0;
  }
}

/* The weights w (groups, ins, outs, taps) of a gradient as panels [its taps][ins][PANEL] of some
   parts of the taps: all from one pass over w. shape: groups, outs, ins, taps, the taps' places. */
void KERNEL(pack_parts)(const real *w, real *to, const i64 *shape) {
  i64 groups = shape[0], outs = shape[1], ins = shape[2], taps = shape[3];
  const struct tap_place *places = (const struct tap_place *)(shape + 4);
  i64 panels = pieces(outs, PANEL);
#pragma omp parallel for if (groups * outs * ins * taps > PARALLEL_ABOVE)
  for (i64 panel = 0; panel < groups * panels; panel++)
    for (i64 i = 0; i < ins; i++)
      for (i64 half = 0; half < 2; half++) {
        i64 first = panel % panels * PANEL + half * LANES;
        i64 lines = min_i64(max_i64(outs - first, 0), LANES);
        i64 at = ((panel / panels * ins + i) * outs + min_i64(first, outs - 1)) * taps;
        i64 room = groups * ins * outs * taps - at;
        part_half(places, taps, w + at, lines, room, panel, to + i * PANEL + half * LANES);
      }
}

/* The numbers of a panel's row: how Python sizes what is packed. */
i64 KERNEL(panel_width)(const real *unused) { return PANEL; }

/* The rows of the largest tile: how Python cuts blocks. */
i64 KERNEL(tile_rows)(const real *unused) { return TILE_ROWS; }
