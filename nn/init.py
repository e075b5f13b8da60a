"""Initial values of parameters."""

import contextlib
import math

import numpy as np

from flambeau.nn import random

_skipped = False


@contextlib.contextmanager
def skipped():
    """Inside, new parameters are left unset: for networks whose weights are loaded next."""
    global _skipped
    before, _skipped = _skipped, True
    try:
        yield
    finally:
        _skipped = before


def uniform(shape, bound):
    """float32, uniform in [-bound, bound)."""
    if _skipped:
        return np.empty(shape, np.float32)
    x = random.generator().random(shape, np.float32)
    x -= np.float32(0.5)
    x *= np.float32(2 * bound)
    return x


def normal(shape, std):
    """float32, normal with mean 0."""
    if _skipped:
        return np.empty(shape, np.float32)
    x = random.generator().standard_normal(shape, np.float32)
    x *= np.float32(std)
    return x


def full(shape, value):
    """float32, all one value."""
    return np.full(shape, value, np.float32)


def fan_in(shape):
    """uniform in ±1/√fan_in, fan_in = all but the first axis: PyTorch's and Torch7's default."""
    return uniform(shape, 1 / math.sqrt(max(1, math.prod(shape[1:]))))
