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
        self.places = []  # (arguments, index, type, number in `starts`, bytes from there)
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
        self.starts = [(_start(x), x.nbytes) for x in xs]  # and sizes, of what changes each run
        with _one:
            self.arena = memory.Arena()
            native.recorder, memory.arena = self, self.arena
            try:
                self.results = function(*xs)
            finally:
                native.recorder = memory.arena = None
        if any(self._inside(_start(y)) for y in self.results):
            raise Refused("an output is part of an input")
        self._renew()

    def _renew(self):
        """Let each run have new memory for the blocks of the arena that results are in."""
        self.inputs = len(self.starts)
        blocks = {self.arena.block_of(_start(y)) for y in self.results} - {None}
        self.starts += sorted(blocks)
        for _, passed in self.calls:
            for i, a in enumerate(passed):
                if isinstance(a, ffi.CData) and (found := self._inside(_address(a), self.inputs)):
                    self.places.append((passed, i, ffi.typeof(a), *found))

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
            if isinstance(a, ffi.CData) and (found := self._inside(_address(a))):
                self.places.append((passed, i, ffi.typeof(a), *found))
            passed.append(ffi.NULL if a is None else a)
        function = native.found(name, dtype)
        self.calls.append((function, passed))
        return function(*passed)

    def place(self, a):
        """Where an array is. Those that are neither inputs nor the arena's live from now on."""
        start = _start(a)
        if not self._inside(start) and not self.arena.block_of(start):
            self.kept.append(a)
        return ffi.cast(native.PLAIN[a.dtype], start)

    def _inside(self, address, least=0):
        """(number, bytes from its start) of what in `starts` holds an address, or None."""
        for number, (first, size) in enumerate(self.starts):
            if number >= least and first <= address < first + size:
                return number, address - first
        return None

    # ---- running

    def run(self, xs):
        """The results for other inputs of the same form, as new arrays; None while it runs."""
        if not self.lock.acquire(blocking=False):
            return None
        try:
            blocks = [memory.empty(size, np.uint8) for _, size in self.starts[self.inputs :]]
            starts = [_start(x) for x in (*xs, *blocks)]
            for arguments, i, kind, number, offset in self.places:
                arguments[i] = ffi.cast(kind, starts[number] + offset)
            native.adopt()
            for function, arguments in self.calls:
                function(*arguments)
            return [self._result(y, blocks) for y in self.results]
        finally:
            self.lock.release()

    def _result(self, y, blocks):
        """y as this run has it, which made these blocks."""
        found = self._inside(_start(y), self.inputs)
        if found is None:
            return layout.copied(y, y)
        number, offset = found
        return np.ndarray(y.shape, y.dtype, blocks[number - self.inputs], offset, y.strides)


def _address(pointer):
    return int(ffi.cast("uintptr_t", pointer))


def _start(x):
    return x.__array_interface__["data"][0]


def _filled(x, draw):
    """A new array of normal numbers in the memory order of x."""
    y = layout.empty_like(x)
    layout.block(y).ravel()[:] = draw.standard_normal(x.size)
    return y
