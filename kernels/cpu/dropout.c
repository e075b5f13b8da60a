/* Dropout with the mask of Philox4x32-10 (Salmon et al., 2011): the same on every device. */

enum { PHILOX_BLOCKS = 64 }; /* so many blocks of four words are drawn at once, as vectors */

/* words[4 i + k] = word k of block counter + i */
INLINE void philox_words(uint32_t key0, uint32_t key1, uint64_t counter, uint32_t *words) {
#pragma omp simd
  for (int i = 0; i < PHILOX_BLOCKS; i++) {
    uint32_t c0 = (uint32_t)(counter + i), c1 = (uint32_t)((counter + i) >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = key0, k1 = key1;
    for (int round = 0; round < 10; round++) {
      uint64_t a = (uint64_t)0xD2511F53 * c0, b = (uint64_t)0xCD9E8D57 * c2;
      c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
      c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
      c1 = (uint32_t)b;
      c3 = (uint32_t)a;
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    words[4 * i] = c0;
    words[4 * i + 1] = c1;
    words[4 * i + 2] = c2;
    words[4 * i + 3] = c3;
  }
}

/* y = x scale where the word of the element is at least `least`, else 0 */
void KERNEL(dropout)(const real *x, real *y, i64 n, i64 key0, i64 key1, i64 counter, i64 least,
                     double scale) {
  const real factor = scale;
  const i64 size = 4 * PHILOX_BLOCKS;
#pragma omp parallel for if (n > PARALLEL_ABOVE)
  for (i64 start = 0; start < n; start += size) {
    uint32_t words[4 * PHILOX_BLOCKS];
    philox_words((uint32_t)key0, (uint32_t)key1, (uint64_t)(counter + start / 4), words);
    const i64 count = min_i64(size, n - start);
    for (i64 i = 0; i < count; i++)
      y[start + i] = words[i] >= least ? x[start + i] * factor : 0;
  }
}

enum { DROPOUT_RUN = 4 * PHILOX_BLOCKS - 3, DROPOUT_CHANNELS = 16 };

/* As dropout for x (n, s, c), whose elements are counted in the order n, c, s: the words of some
   neighbouring channels are drawn for a run of positions, and used crosswise. */
void KERNEL(dropout_channels)(const real *x, real *y, i64 n, i64 c, i64 s, i64 key0, i64 key1,
                              i64 counter, i64 least, double scale) {
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
