"""Dropout, with the mask of a counter-based generator: C kernel."""

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, native


def dropout(x, p, key, counter):
    """y = x / (1 − p) with probability 1 − p, else 0; the same call on dy is its backward"""
    if not native.takes(x):
        return reference.dropout(x, p, key, counter)
    last = layout.prefers_channels_last(x)
    x = layout.arranged(x, last)
    y = layout.empty_like(x)
    least, scale = round(p * 2**32), 1 / (1 - p) if p < 1 else 0.0
    stream = np.array([key & 0xFFFFFFFF, key >> 32, counter])
    options = native.drawn_from(stream), least, scale
    if last:
        n, c, h, w = x.shape
        native.call("dropout_channels", layout.block(x), layout.block(y), n, c, h * w, *options)
    else:
        native.call("dropout", x, y, x.size, *options)
    return y
