/* Dropout with the mask of Philox4x32-10 (Salmon et al., 2011): the same on every device. */
#include "kernel.h"

struct Words {
    u32 word[4];
};

/* Block number `counter` of the stream of a key. */
__device__ inline Words philox(u32 key0, u32 key1, i64 counter) {
    u32 c0 = (u32)counter, c1 = (u32)((unsigned long long)counter >> 32), c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        unsigned long long a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
        c0 = (u32)(b >> 32) ^ c1 ^ key0;
        c2 = (u32)(a >> 32) ^ c3 ^ key1;
        c1 = (u32)b;
        c3 = (u32)a;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    return Words{{c0, c1, c2, c3}};
}

/* y = x scale where the word of the element is at least `least`, else 0. A thread takes the four
   elements of a block of words. */
KERNEL dropout(const real *x, real *y, i64 n, i64 key0, i64 key1, i64 counter, i64 least,
               real scale) {
    STRIDED(block, (n + 3) / 4) {
        Words words = philox((u32)key0, (u32)key1, counter + block);
        for (i64 i = block * 4; i < block * 4 + 4 && i < n; i++)
            y[i] = words.word[i - block * 4] >= least ? x[i] * scale : 0;
    }
}
