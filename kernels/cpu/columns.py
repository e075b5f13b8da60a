"""Statistics of channels that lie innermost in memory: x is (rows, c)."""

from flambeau.kernels.cpu import layout, memory, native

_PART = 32768  # values: few enough that all threads have work
_MOST_PARTS = 64


def moments(x, rows, c):
    """The mean of each column, and the sum of squared distances from it, in float64."""
    work, parts = workspace(rows, c)
    native.call("column_moments", layout.block(x), work, rows, c, parts)
    return work[0]


def sums(x, centre, dy, rows, c):
    """Σ dy and Σ (x − centre) dy of each column, in float64; centre may be None"""
    work, parts = workspace(rows, c)
    options = rows, c, parts, False
    native.call("column_sums", layout.block(x), centre, layout.block(dy), work, *options)
    return work[0]


def negative_sums(x, dy, rows, c):
    """Σ dy x over x ≤ 0 of each column, in float64"""
    work, parts = workspace(rows, c)
    options = rows, c, parts, True
    native.call("column_sums", layout.block(x), None, layout.block(dy), work, *options)
    return work[0, 1]


def workspace(rows, c):
    """Memory for two float64 sums a column of each part, and how many parts there are."""
    parts = max(1, min(_MOST_PARTS, rows, rows * c // _PART))
    return memory.empty((parts, 2, c), "f8"), parts
