/* Dropout with the mask of Philox4x32-10 (Salmon et al., 2011): the same on every device. */

enum { PHILOX_BLOCKS = 64 }; /* so many blocks of four words are drawn at once, as vectors */

/* PRODUCTS(a, b): the 64-bit products of the lower halves of 64-bit lanes; WIDE_PICK: as PICK */
#if defined(ISA_IS_AVX512)
typedef uint64_t wide __attribute__((vector_size(64)));
typedef int wide_halves __attribute__((vector_size(64)));
typedef long long wide_products __attribute__((vector_size(64)));
#define PRODUCTS(a, b)                                                                          \
  ((wide)__builtin_ia32_pmuludq512_mask((wide_halves)(a), (wide_halves)(b), (wide_products){0}, \
                                        0xFF))
#define WIDE_PICK PICK_8
#elif defined(ISA_IS_AVX2)
typedef uint64_t wide __attribute__((vector_size(32)));
typedef int wide_halves __attribute__((vector_size(32)));
#define WIDE_PICK PICK_4
#define PRODUCTS(a, b) ((wide)__builtin_ia32_pmuludq256((wide_halves)(a), (wide_halves)(b)))
#else
typedef uint64_t wide __attribute__((vector_size(16)));
#define WIDE_PICK PICK_2
typedef int wide_halves __attribute__((vector_size(16)));
#if defined(__SSE2__)
#define PRODUCTS(a, b) ((wide)__builtin_ia32_pmuludq128((wide_halves)(a), (wide_halves)(b)))
#else
#define PRODUCTS(a, b) (((a) & 0xFFFFFFFF) * ((b) & 0xFFFFFFFF))
#endif
#endif
enum { WIDE = sizeof(wide) / 8, AT_ONE_TIME = 2 }; /* blocks of a vector; vectors side by side */
#define BOTH _Pragma("GCC unroll 2") for (int v = 0; v < AT_ONE_TIME; v++)

/* Which of the lanes of two vectors comes at lane l of both in turn, the first taken `s` lanes on. */
#define IN_TURN(l, s) (((l) + (s)) / 2 + ((l) % 2) * WIDE)

/* words[4 l + k] = the lower half of lane l of c[k] */
INLINE void store_words(const wide *c, uint32_t *words) {
  const wide low = (c[0] & 0xFFFFFFFF) | c[1] << 32, high = (c[2] & 0xFFFFFFFF) | c[3] << 32;
  const wide first = __builtin_shuffle(low, high, ((wide){WIDE_PICK(IN_TURN, 0, 0)}));
  const wide second = __builtin_shuffle(low, high, ((wide){WIDE_PICK(IN_TURN, WIDE, 0)}));
  memcpy(words, &first, sizeof first);
  memcpy(words + 2 * WIDE, &second, sizeof second);
}

/* words[4 i + k] = word k of block counter + i; the upper halves of lanes may hold anything */
INLINE void philox_words(uint32_t key0, uint32_t key1, uint64_t counter, uint32_t *words) {
  wide each;
  for (int l = 0; l < WIDE; l++) each[l] = l;
  for (int i = 0; i < PHILOX_BLOCKS; i += AT_ONE_TIME * WIDE) {
    uint32_t k0 = key0, k1 = key1;
    wide c[AT_ONE_TIME][4];
    BOTH {
      const wide block = each + (counter + i + v * WIDE);
      c[v][0] = block, c[v][1] = block >> 32, c[v][2] = c[v][3] = (wide){0};
    }
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85)
      BOTH {
        const wide a = PRODUCTS((wide){0} + 0xD2511F53, c[v][0]);
        const wide b = PRODUCTS((wide){0} + 0xCD9E8D57, c[v][2]);
        c[v][0] = (b >> 32) ^ c[v][1] ^ k0;
        c[v][2] = (a >> 32) ^ c[v][3] ^ k1;
        c[v][1] = b;
        c[v][3] = a;
      }
    BOTH store_words(c[v], words + 4 * (i + v * WIDE));
  }
}

/* y = x scale where the word of the element is at least `least`, else 0
   stream: the lower and upper half of the key, and the counter of the first block. */
void KERNEL(dropout)(const real *x, real *y, i64 n, const i64 *stream, i64 least, double scale) {
  const i64 key0 = stream[0], key1 = stream[1], counter = stream[2];
  const real factor = scale;
  const i64 size = 4 * PHILOX_BLOCKS;
  const uint32_t lowest = least; /* 2³² is no word: all are below */
  const int none = least > UINT32_MAX;
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 start = 0; start < n; start += size) {
    uint32_t words[4 * PHILOX_BLOCKS];
    philox_words((uint32_t)key0, (uint32_t)key1, (uint64_t)(counter + start / 4), words);
    const i64 count = none ? 0 : min_i64(size, n - start);
#pragma omp simd
    for (i64 i = 0; i < count; i++)
      y[start + i] = words[i] >= lowest ? x[start + i] * factor : 0;
  }
  if (none) memset(y, 0, n * sizeof(real));
}

enum { DROPOUT_RUN = 4 * PHILOX_BLOCKS - 3, DROPOUT_CHANNELS = 16 };

/* As dropout for x (n, s, c), whose elements are counted in the order n, c, s: the words of some
   neighbouring channels are drawn for a run of positions, and used crosswise. */
void KERNEL(dropout_channels)(const real *x, real *y, i64 n, i64 c, i64 s, const i64 *stream,
                              i64 least, double scale) {
  const i64 key0 = stream[0], key1 = stream[1], counter = stream[2];
  const real factor = scale;
#pragma omp parallel for collapse(2) if (n * c * s > PARALLEL_ABOVE)
  for (i64 image = 0; image < n; image++)
    for (i64 at = 0; at < c; at += DROPOUT_CHANNELS)
      for (i64 start = 0; start < s; start += DROPOUT_RUN) {
        uint32_t words[4 * PHILOX_BLOCKS];
        real factors[DROPOUT_RUN][DROPOUT_CHANNELS];
        const i64 width = min_i64(DROPOUT_CHANNELS, c - at), run = min_i64(DROPOUT_RUN, s - start);
        const i64 from = (image * s + start) * c + at;
        for (i64 k = 0; k < width; k++) {
          const i64 first = (image * c + at + k) * s + start;
          philox_words((uint32_t)key0, (uint32_t)key1, (uint64_t)(counter + first / 4), words);
          for (i64 i = 0; i < run; i++) factors[i][k] = words[first % 4 + i] >= least ? factor : 0;
        }
        for (i64 i = 0; i < run; i++)
          for (i64 k = 0; k < width; k++)
            y[from + i * c + k] = factors[i][k] == 0 ? 0 : x[from + i * c + k] * factors[i][k];
      }
}
