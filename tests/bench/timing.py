"""Times of functions that take turns, and the limits of the machine they are held against.

All benchmarks run on OMP_NUM_THREADS threads, or else on every processor.
"""

import gc
import statistics
import time
from typing import NamedTuple

import numpy as np

PAUSE = 0.15  # seconds: longer than threads spin after a call, which OpenBLAS's do for 0.11
TURN = 0.25  # seconds of runs in a turn
LONG = 0.5  # seconds: such a run is not hurt by caches that another library filled


class Time(NamedTuple):
    """Seconds of one run."""

    median: float
    best: float


def measure(functions, seconds=20.0, rounds=7):
    """{name: Time} of {name: function}: turn by turn, so that a noisy minute is noisy for all.

    A turn is a pause, in which the threads of the library before it stop spinning, a run that does
    not count, and then as many runs as make a quarter of a second. There are as many rounds of
    turns as `seconds` allow, from 3 to `rounds`.
    """
    times = {name: [] for name in functions}
    firsts = {name: once(function) for name, function in functions.items()}
    gc.collect()
    end = time.perf_counter() + seconds
    for done in range(1, rounds + 1):
        for name, function in functions.items():
            time.sleep(PAUSE)
            if firsts[name] < LONG:
                firsts[name] = once(function)
            runs = max(1, min(50, int(TURN / firsts[name])))
            times[name] += [once(function) for _ in range(runs)]
        if done >= 3 and time.perf_counter() > end:
            break
    return {name: Time(statistics.median(found), min(found)) for name, found in times.items()}


def once(function):
    """The seconds that one run takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def quickest(times, names):
    """The least median and the least best of those names, as one Time."""
    return Time(*map(min, zip(*(times[name] for name in names), strict=True)))


def ratio(ours, theirs):
    """How many times as fast as theirs ours is, by the medians and, in brackets, by the bests."""
    return f"{theirs.median / ours.median:7.2f} ({theirs.best / ours.best:.2f})"


def sgemm():
    """Multiply-adds a second of NumPy's float32 matrix product."""
    a = np.ones((1024, 1024), "f4")
    return 1024**3 / measure({"": lambda: a @ a}, rounds=3)[""].median


def copying():
    """Bytes a second, read and written, of a copy of 64 MiB by the fastest of two libraries."""
    import torch

    x, y = np.ones((2, 1 << 24), "f4")
    t, u = torch.from_numpy(x), torch.from_numpy(y)
    times = measure({"NumPy": lambda: np.copyto(y, x), "PyTorch": lambda: u.copy_(t)}, rounds=3)
    return 2 * x.nbytes / quickest(times, times).median
