"""Dropout with the mask of a counter-based generator."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


def dropout(x, p, key, counter):
    """y = x / (1 - p) with probability 1 - p, else 0        the same call on dy is its backward

    Element e takes word e % 4 of block counter + e // 4 of Philox4x32-10 under the 64-bit key.
    """
    x = contiguous(x)
    y = empty(x, x.shape, x.dtype)
    least, scale = round(p * 2**32), 1 / (1 - p) if p < 1 else 0
    options = key & 0xFFFFFFFF, key >> 32, counter, least, scale
    device.launch("dropout", "dropout", -(-x.size // 4), x, y, x.size, *options)
    return y
