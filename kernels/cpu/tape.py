"""The kernels that functions run, written down with the memory they work in: see recording.py."""

import functools
import threading

import numpy as np

from flambeau.kernels.cpu import layout, memory, native
from flambeau.kernels.cpu.replay import Program

ffi = native.ffi
_one = threading.Lock()  # one tape is written at a time
END = 1 << 64  # of all addresses
ADDS = {"conv_weight": (2, 5)}  # kernels: which argument they add to, and which says if they do


class Refused(Exception):
    """What was called cannot be recorded; the text says why."""


class Part:
    """What a function of arrays ran, and the arrays that it gave.

    calls: (function, list of its arguments). places: where these hold addresses that change from
    run to run, as (list, index, what makes the argument of an address, number among the tape's
    `starts`, bytes from there). first, inputs: the numbers of the inputs. blocks: the numbers of
    the memory that results are in. program: the same for C, once it has run.
    """

    program = None

    def __init__(self, first, inputs):
        self.first, self.inputs = first, inputs
        self.calls, self.places, self.results, self.blocks = [], [], [], []


class Tape:
    """Functions of arrays, one after another, that can be run again in this order.

    arena: where their arrays lie. fixed: True where arrays that cannot be written to stay as they
    are, and what was made of them once serves every run.
    with Tape(arena, fixed) as tape: part = tape.part(function, xs) writes one down, and
    tape.run(part, xs) runs it.
    Raises Refused where an input is not one block of memory, and an output is part of an input.
    """

    def __init__(self, arena, fixed):
        self.arena, self.fixed = arena, fixed
        self.parts = []
        self.starts = []  # (address, bytes) of what is elsewhere in each run, when it was written
        self.now = []  # and their addresses in the last run
        self.held = {}  # number of a part or of a block: what must not die before the next run
        self.kept = []  # arrays that are not the arena's: weights, tables of sizes
        self.streams = []  # of these, keys and counters of random numbers
        self.cleared = []  # (first byte, end, how to write it down) of what is to be cleared

    # ---- writing

    def __enter__(self):
        _one.acquire()
        native.recorder, memory.arena = self, self.arena
        return self

    def __exit__(self, *_):
        native.recorder = memory.arena = None
        _one.release()

    def is_mine(self):
        """True in the Python thread that is recorded."""
        return self.arena.is_mine()

    def part(self, function, xs):
        """Run function(*xs), which gives a list of arrays or Nones, and write it down."""
        if not all(layout.dense(x) and min(x.strides, default=0) >= 0 for x in xs):
            raise Refused("an input is not one block of memory")
        part = Part(len(self.starts), len(xs))
        self.parts.append(part)
        self.starts += [(_start(x), x.nbytes) for x in xs]
        part.results = list(function(*xs))
        self._clear(0, END)
        if any(y is not None and self._inside(_start(y)) for y in part.results):
            raise Refused("an output is part of an input")
        self.now = [address for address, _ in self.starts]
        return part

    def lives(self, part):
        """The lives of the arrays of a tape in a Watched arena; of a part's results, for ever."""
        for y in part.results:
            self.arena.keep(_start(y))
        return [tuple(life) for life in self.arena.lives]

    def renew(self, part):
        """Let each run have new memory for the blocks of the arena that a part's results are in."""
        found = {self.arena.block_of(_start(y)) for y in part.results} - {None}
        least = len(self.starts)
        self.starts += sorted(found)
        part.blocks = range(least, len(self.starts))
        self.now += [address for address, _ in sorted(found)]
        for written in self.parts:
            for _, arguments in written.calls:
                self._note(written, arguments, least)

    def call(self, name, args):
        """Run a kernel, as native.call does, and write it down."""
        args = self._replacing(name, list(args))
        arrays = (a[0] if isinstance(a, list) else a for a in args)
        dtype = next(a.dtype for a in arrays if isinstance(a, np.ndarray))
        function, arguments = native.found(name, dtype), [self._passed(a) for a in args]
        if name == "clear" and not self.arena.block_of(_start(args[0])):
            self.cleared.append((*_span(args[0]), function, arguments))
            return function(*arguments)
        return self._run(function, arguments)

    def assign(self, to, x):
        """to[...] = x, as memory.assign does, written down."""
        self._run(np.copyto, [self._view(a) if isinstance(a, np.ndarray) else a for a in (to, x)])

    def place(self, a):
        """Where an array is, as an argument of a kernel."""
        return ffi.cast(native.PLAIN[a.dtype], self._lasting(a))

    def _lasting(self, a):
        """Where an array is. Those that are neither inputs nor the arena's live from now on.

        What was cleared of it is written down now: it is in the caches when it is used.
        """
        start = _start(a)
        if self.cleared:
            self._clear(*_span(a))
        if not self._inside(start) and not self.arena.block_of(start):
            self.kept.append(a)
        return start

    def _view(self, a):
        """An array without its owner: the memory may be given to others when that dies."""
        if min(a.strides, default=0) < 0:
            raise Refused("an array runs backwards in memory")
        return _at(a.shape, a.dtype, a.strides, self._lasting(a))

    def _passed(self, a):
        if isinstance(a, list):
            return ffi.new(native.TABLE[a[0].dtype], [self.place(part) for part in a])
        if isinstance(a, np.ndarray):
            return self.place(a)
        return ffi.NULL if a is None else a

    def _replacing(self, name, args):
        """The arguments of a kernel, which need not add to what was just cleared: see ADDS."""
        if name in ADDS and self.cleared:
            to, adds = ADDS[name]
            spans = [c[:2] for c in self.cleared]
            if _span(args[to]) in spans:
                args[adds] = False
                del self.cleared[spans.index(_span(args[to]))]
        return args

    def _clear(self, start, end):
        """Write down that arrays are cleared which have some of these bytes."""
        waiting, self.cleared = self.cleared, []
        for first, last, function, arguments in waiting:
            if start < last and first < end:
                self._write(function, arguments)
            else:
                self.cleared.append((first, last, function, arguments))

    def _run(self, function, arguments):
        self._write(function, arguments)
        return function(*arguments)

    def _write(self, function, arguments):
        part = self.parts[-1]
        part.calls.append((function, arguments))
        self._note(part, arguments, 0)

    def _note(self, part, arguments, least):
        """Note where arguments are in what is elsewhere in each run, from a number on."""
        for i, a in enumerate(arguments):
            if isinstance(a, np.ndarray):
                make, address = functools.partial(_at, a.shape, a.dtype, a.strides), _start(a)
            elif not isinstance(a, ffi.CData):
                continue
            elif ffi.typeof(a).kind == "array":  # a table of addresses
                self._note(part, a, least)
                continue
            else:
                make, address = functools.partial(ffi.cast, ffi.typeof(a)), _address(a)
            found = self._inside(address, least)
            if found:
                part.places.append((arguments, i, make, *found))

    def _inside(self, address, least=0):
        """(number, bytes from its start) of what in `starts` holds an address, or None."""
        for number, (first, size) in enumerate(self.starts[least:], least):
            if first <= address < first + size:
                return number, address - first
        return None

    # ---- running

    def run(self, part, xs):
        """The results of a part for other inputs, in memory as those were; as new arrays.

        What the parts before it left in the tape's memory is as their last run left it.
        """
        blocks = {number: memory.empty(self.starts[number][1], np.uint8) for number in part.blocks}
        self.held[part.first] = xs
        self.held |= blocks
        self.now[part.first : part.first + part.inputs] = map(_start, xs)
        for number, block in blocks.items():
            self.now[number] = _start(block)
        native.adopt()
        if part.program is None:
            part.program = Program(part.calls, part.places)
        part.program.run(self.now)
        return [None if y is None else self._result(y, part, blocks) for y in part.results]

    def release(self):
        """Let go of the last inputs and results: no part will be run that needs them."""
        self.held.clear()

    def _result(self, y, part, blocks):
        """y as this run has it."""
        found = self._inside(_start(y), part.blocks.start) if blocks else None
        if found is None:
            return layout.copied(y, y)
        number, offset = found
        return np.ndarray(y.shape, y.dtype, blocks[number], offset, y.strides)


def _address(pointer):
    return int(ffi.cast("uintptr_t", pointer))


def _start(x):
    return x.__array_interface__["data"][0]


def _span(x):
    """Addresses of the first byte of an array of strides >= 0, and of the one after the last."""
    start = _start(x)
    return start, start + _size(x.shape, x.dtype, x.strides)


def _size(shape, dtype, strides):
    """Bytes from the first to the last."""
    return dtype.itemsize + sum(s * max(0, n - 1) for s, n in zip(strides, shape, strict=True))


def _at(shape, dtype, strides, start):
    """The array of a shape and strides >= 0 that starts at an address."""
    size = _size(shape, dtype, strides)
    return np.ndarray(shape, dtype, ffi.buffer(ffi.cast("char *", start), size), 0, strides)
