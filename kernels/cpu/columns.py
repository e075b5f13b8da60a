"""Sums and statistics of channels that lie innermost in memory: x is (rows, c)."""

from flambeau.kernels.cpu import layout, memory, native, weights
from flambeau.kernels.cpu.arrays import in_place

_PART = 32768  # values: few enough that all threads have work
_MOST = 64  # parts, of all blocks of columns together
_BLOCK = 256  # columns: COLUMN_BLOCK of columns.h


def add_sums(x, dy, dw, db, rows, c, negative):
    """db += Σ dy and dw += Σ dy x, or Σ dy x over x ≤ 0 (negative), of each column"""
    work, parts = workspace(rows, c)
    options = rows, c, parts, negative
    with in_place(dw, db) as sums:
        native.call("add_column_sums", layout.block(x), layout.block(dy), *sums, work, *options)


def totals(x, y, add):
    """y = Σ x over all but the last axis, or += (add); gives y        x (*s, c), y (c,)"""
    rows, c = x.size // max(1, len(y)), len(y)
    work, parts = workspace(rows, c)
    native.call("column_totals", x, y, work, rows, c, parts, add)
    return y


def takes(x, *arrays):
    """True for images whose channels lie innermost in memory and fill whole vectors."""
    fits = layout.prefers_channels_last(x) and x.shape[1] % weights.lanes() == 0
    return fits and native.takes(x, *arrays)


def workspace(rows, c, sums=2):
    """Memory for so many float64 sums a column of each part, and how many parts there are."""
    parts = max(1, min(_MOST // -(-c // _BLOCK), rows, rows * c // _PART))
    return memory.empty((parts, sums, c), "f8"), parts
