"""Random numbers: counter-based (Philox), so that a seed gives the same on every device."""

import numpy as np

_key = 0
_counter = 0
_generator = None


def seed(number):
    """Start all random numbers anew: initial weights and dropout masks.

    >>> from flambeau import nn
    >>> nn.seed(1)
    """
    global _key, _counter, _generator
    if not isinstance(number, int) or not 0 <= number < 2**64:
        raise ValueError(f"seed: must be an integer from 0 to 2**64 - 1 — got {number!r}")
    _key, _counter, _generator = number, 0, None


def generator():
    """The NumPy generator from which initial weights are drawn."""
    global _generator
    if _generator is None:  # numpy.random is loaded here, not by import flambeau
        _generator = np.random.Generator(np.random.Philox(_key))
    return _generator


def reserve(n):
    """Take n numbers of the kernels' stream: (key, counter of the first block of four)."""
    global _counter
    first = _counter
    _counter += (n + 3) // 4
    return _key, first


def rewind(key, counter):
    """Go back to where `reserve` was: the kernels draw the same numbers again."""
    global _key, _counter
    _key, _counter = key, counter
