"""Dropout, with the mask of a counter-based generator."""

import numpy as np


def dropout(x, p, key, counter):
    """y = x / (1 − p) with probability 1 − p, else 0; the same call on dy is its backward

    Element e (in C order) is kept when word e % 4 of block counter + e // 4 of Philox4x32-10
    under the 64-bit key is at least p · 2³².
    """
    blocks = np.arange(counter, counter + -(-x.size // 4), dtype=np.uint64)
    low, high = blocks & 0xFFFFFFFF, blocks >> 32
    words = philox([low, high, low * 0, low * 0], [key & 0xFFFFFFFF, key >> 32])
    words = np.stack(words, -1).reshape(-1)[: x.size].reshape(x.shape)
    scale = 1 / (1 - p) if p < 1 else 0.0
    kept = words >= round(p * 2**32)
    return np.multiply(x, x.dtype.type(scale), where=kept, out=np.zeros(x.shape, x.dtype))


def philox(counter, key):
    """Philox4x32-10: four random 32-bit words from four words of counter and two of key

    counter: arrays of uint64, or numbers, below 2³². Source: Salmon et al., Parallel random
    numbers: as easy as 1, 2, 3 (2011).
    """
    c0, c1, c2, c3 = (np.asarray(c, np.uint64) for c in counter)
    k0, k1 = key
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1 = (b >> 32) ^ c1 ^ np.uint64(k0), b & 0xFFFFFFFF
        c2, c3 = (a >> 32) ^ c3 ^ np.uint64(k1), a & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3
