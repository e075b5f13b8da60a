"""Rows of a table, looked up by their numbers."""

import numpy as np


def embedding(x, w):
    """y = w[x]        x (*s) int64, w (v, d) -> y (*s, d)"""
    return w[x]


def embedding_backward(x, dy, dw, padding, by_frequency):
    """dw[x] += dy, but row `padding` (or None); by_frequency: the mean over each row's uses"""
    rows, scale = x.reshape(-1), np.ones((x.size, 1), dy.dtype)
    if by_frequency:
        scale /= np.bincount(rows, minlength=len(dw))[rows][:, None]
    if padding is not None:
        scale[rows == padding] = 0
    np.add.at(dw, rows, dy.reshape(-1, dw.shape[1]) * scale)


def uses(x, padding):
    """Where each row is used: places in x by row, in order, and where each row's places begin.

    Rows that are not used, and `padding`, have none: (places, begins, rows), int64.
    """
    x = x.reshape(-1)
    places = np.argsort(x, kind="stable")
    if padding is not None:
        places = places[x[places] != padding]
    rows = x[places]
    first = np.flatnonzero(np.diff(rows, prepend=-1))
    return places, np.append(first, len(rows)), rows[first]
