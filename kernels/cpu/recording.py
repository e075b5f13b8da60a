"""Kernels written down as they run, to run them again without the Python between them.

While Python looks for the next kernel, one thread works and the others wait, and after a while go
to sleep. A network whose inputs have one form calls the same kernels every time, with the same
memory if it is let be: only the values in it change.
"""

import threading

import numpy as np

from flambeau.kernels.cpu import conv_algorithm, layout, memory, native

ffi, lib = native.ffi, native.lib
_one = threading.Lock()  # one recording is made at a time


class Refused(Exception):
    """What was called cannot be recorded; the text says why."""


def form(xs):
    """What must be the same for the same kernels to run: all but the values of the arrays."""
    arrays = tuple([(x.dtype, x.shape, x.strides, x.flags.aligned) for x in xs])
    return lib.threads(), conv_algorithm.forced(), arrays


class Recording:
    """The kernels that a function runs for arrays of one form, and the memory they work in.

    Recording(function, xs).run(xs) gives the arrays that function(*xs) gives, for other xs of the
    same dtypes, shapes and strides. The function computes by the kernels of this package alone,
    which may not depend on what the values are; it is tried with random numbers.
    Raises Refused where that does not hold.
    """

    def __init__(self, function, xs):
        self.calls = []  # (C function, list of its arguments)
        self.places = []  # (arguments, index, type, x's number, bytes from its start)
        self.kept = []  # arrays that are not the arena's: weights, tables of sizes
        self.lock = threading.Lock()
        if not all(layout.dense(x) and min(x.strides, default=0) >= 0 for x in xs):
            raise Refused("an input is not one block of memory")
        draw = np.random.default_rng(0)
        probes = [_filled(x, draw) for x in xs]
        expected = function(
            *probes
        )  # now whatever is kept between passes, packed weights, is there
        self._write(function, xs)
        for y, z in zip(self.run(probes), expected, strict=True):
            if not np.array_equal(y, z, equal_nan=True):
                raise Refused("other inputs give another result than they should")

    def _write(self, function, xs):
        self.starts = [(_start(x), x.nbytes) for x in xs]
        with _one:
            self.arena = memory.Arena()
            native.recorder, memory.arena = self, self.arena
            try:
                self.results = function(*xs)
            finally:
                native.recorder = memory.arena = None
        if any(self._input(_start(y)) for y in self.results):
            raise Refused("an output is part of an input")

    # ---- writing

    def is_mine(self):
        """True in the Python thread that is recorded."""
        return self.arena.is_mine()

    def call(self, name, args):
        """Run a kernel, as native.call does, and write it down."""
        dtype = next(a.dtype for a in args if isinstance(a, np.ndarray))
        passed = []
        for i, a in enumerate(args):
            if isinstance(a, list):
                raise Refused(f"{name} takes a table of arrays")
            if isinstance(a, np.ndarray):
                a = self.place(a)
            if isinstance(a, ffi.CData) and (found := self._input(int(ffi.cast("size_t", a)))):
                self.places.append((passed, i, ffi.typeof(a), *found))
            passed.append(ffi.NULL if a is None else a)
        function = native.found(name, dtype)
        self.calls.append((function, passed))
        return function(*passed)

    def place(self, a):
        """Where an array is. Those that are neither inputs nor the arena's live from now on."""
        start = _start(a)
        if not self._input(start) and not self.arena.holds(start):
            self.kept.append(a)
        return ffi.cast(native.PLAIN[a.dtype], start)

    def _input(self, start):
        """(number, bytes from its start) of the input that holds an address, or None."""
        for number, (first, size) in enumerate(self.starts):
            if first <= start < first + size:
                return number, start - first
        return None

    # ---- running

    def run(self, xs):
        """The results for other inputs of the same form, as new arrays; None while it runs."""
        if not self.lock.acquire(blocking=False):
            return None
        try:
            starts = [_start(x) for x in xs]
            for arguments, i, kind, number, offset in self.places:
                arguments[i] = ffi.cast(kind, starts[number] + offset)
            native.adopt()
            for function, arguments in self.calls:
                function(*arguments)
            return [layout.copied(y, y) for y in self.results]
        finally:
            self.lock.release()


def _start(x):
    return x.__array_interface__["data"][0]


def _filled(x, draw):
    """A new array of normal numbers in the memory order of x."""
    y = layout.empty_like(x)
    layout.block(y).ravel()[:] = draw.standard_normal(x.size)
    return y
