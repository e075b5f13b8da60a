"""Kernels written down as they run, to run them again without the Python between them.

While Python looks for the next kernel, one thread works and the others wait, and after a while go
to sleep. A network whose inputs have one form calls the same kernels every time, with the same
memory if it is let be: only the values in it change.
"""

import threading

import numpy as np

from flambeau.kernels.cpu import conv_algorithm, layout, memory, native, weights
from flambeau.kernels.cpu.arena import Arena, Watched
from flambeau.kernels.cpu.tape import Refused, Tape

__all__ = ["Passes", "Recording", "Refused", "form"]


def form(xs):
    """What must be the same for the same kernels to run: all but the values of the arrays."""
    arrays = tuple([(x.dtype, x.shape, x.strides, x.flags.aligned) for x in xs])
    return native.lib.threads(), conv_algorithm.forced(), arrays


class Recording:
    """The kernels that a function runs for arrays of one form, and the memory they work in.

    Recording(function, xs).run(xs) gives the arrays that function(*xs) gives, for other xs of the
    same dtypes, shapes and strides. The function computes by the kernels of this package alone,
    which may not depend on what the values are; it is tried with random numbers.
    Raises Refused where that does not hold.
    """

    def __init__(self, function, xs):
        self.lock = threading.Lock()
        probes = drawn(xs, 0)
        expected = function(*probes)  # now whatever is kept, packed weights, is there
        with Tape(Watched(), True) as draft:
            part = draft.part(function, probes)
        self.tape = Tape(Arena(draft.lives(part)), True)
        with self.tape:
            self.part = self.tape.part(function, xs)
        self.tape.renew(self.part)
        compare(self.run(probes), expected)

    @property
    def calls(self):
        """What runs, one after another: (function, list of its arguments)."""
        return self.part.calls

    def run(self, xs):
        """The results for other inputs of the same form, as new arrays; None while it runs."""
        if not self.lock.acquire(blocking=False):
            return None
        try:
            return self.tape.run(self.part, xs)
        finally:
            self.lock.release()


class Passes:
    """The kernels of a pass forward and of the pass backward after it, and their memory.

    stream() gives the key and the counter of the random numbers that are drawn next. `blocks`: by
    how much a pass moves the counter.

    forward(*xs) gives ys, and backward(xs, dys) after it dxs, arrays or Nones; the two are as the
    function of a Recording, but that they read arrays that others change, `parameters` and
    `statistics`, and change the latter and `gradients`. They are run to record them and to try the
    recording, with other values everywhere, which are then put back.
    Raises Refused as a Recording does.
    """

    def __init__(self, forward, backward, xs, parameters, statistics, gradients, stream):
        self.lock, self.runs = threading.Lock(), 0
        trial = Trial(parameters, statistics, gradients)
        try:
            trial.start()
            probes, begun = drawn(xs, 0), stream()
            ys = forward(*probes)
            dys, others = drawn(ys, 1), drawn(ys, 2)
            expected = [*ys, *backward(probes, dys)]
            changed = trial.end()
            with Tape(Watched(), False) as draft:
                part = draft.part(forward, probes)
                draft.part(lambda *dys: backward(probes, dys), dys)
            self.tape = Tape(Arena(draft.lives(part)), False)
            del draft, part
            start = stream()[1]
            with self.tape:
                self.ahead = self.tape.part(forward, xs)
                self.back = self.tape.part(lambda *dys: backward(xs, dys), others)
            self.tape.renew(self.ahead)
            self.blocks = stream()[1] - start
            self.offsets = [counters[2] - start for counters in self.tape.streams]
            trial.start()
            found = self.forward(probes, *begun)
            compare([*found, *self.backward(dys)], expected)
            if trial.end() != changed:
                raise Refused("other inputs give other gradients or statistics than they should")
        finally:
            trial.end()

    def forward(self, xs, key, counter):
        """What forward(*xs) gives for other inputs of the same form, as new arrays.

        key, counter: of the random numbers from here on.
        """
        with self.lock:
            self.runs += 1
            for numbers, offset in zip(self.tape.streams, self.offsets, strict=True):
                numbers[:] = key & 0xFFFFFFFF, key >> 32, counter + offset
            return self.tape.run(self.ahead, xs)

    def backward(self, dys):
        """What backward(xs, dys) gives after it, as new arrays."""
        pairs = zip(dys, self.ahead.results, strict=True)
        dys = [dy if _alike(dy, y) else layout.copied(dy, y) for dy, y in pairs]
        with self.lock:
            try:
                return self.tape.run(self.back, dys)
            finally:
                self.tape.release()

    @property
    def shapes(self):
        """The shapes of the results."""
        return [y.shape for y in self.ahead.results]


class Trial:
    """Other values in arrays for a while: what was recorded may not depend on those of before.

    Parameters have the other sign, statistics are a quarter larger.
    """

    def __init__(self, parameters, statistics, gradients):
        self.parameters = [a for a in parameters if not weights.cannot_change(a)]
        self.statistics, self.arrays = statistics, [*statistics, *gradients]
        self.before = [memory.copy(a) if a.any() else 0 for a in self.arrays]
        self.goes_on = False

    def start(self):
        """Put other values in the arrays."""
        self._put_back()
        self._turn()
        for a in self.statistics:
            a *= 1.25
        self.goes_on = True

    def end(self):
        """Put the values of before back; what identifies those that were there."""
        found = [weights.fingerprint(a) for a in self.arrays]
        self._put_back()
        if self.goes_on:
            self._turn()
        self.goes_on = False
        return found

    def _turn(self):
        for a in self.parameters:
            np.negative(a, out=a)

    def _put_back(self):
        for a, values in zip(self.arrays, self.before, strict=True):
            a[...] = values


def drawn(xs, seed):
    """New arrays of normal numbers, in memory as xs are."""
    draw = np.random.default_rng(seed)
    ys = [layout.empty_like(x) for x in xs]
    for y in ys:
        layout.block(y).ravel()[:] = draw.standard_normal(y.size)
    return ys


def compare(found, expected):
    """Raise Refused unless the arrays hold the same bits."""
    for y, z in zip(found, expected, strict=True):
        if y is not z and not np.array_equal(y, z, equal_nan=True):
            raise Refused("other inputs give another result than they should")


def _alike(a, b):
    """True when two arrays of one shape lie in memory alike."""
    return a.dtype == b.dtype and a.strides == b.strides and a.flags.aligned
