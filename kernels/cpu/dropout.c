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
