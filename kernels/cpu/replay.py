"""Kernels that C runs one after another, with no Python between them: see tape.py and build.py."""

import struct

from flambeau.kernels.cpu import native

ffi, lib = native.ffi, native.lib


class Program:
    """Calls, in their order, with arguments some of which change from run to run.

    calls: (function, list of its arguments). places: (arguments, index, what makes the argument of
    an address, number of a start, bytes from there), see Part of tape.py.
    """

    def __init__(self, calls, places):
        self.calls = calls  # what the numbers are the addresses of lives with these
        self.numbers = ffi.new("i64[]", sum(len(arguments) for _, arguments in calls))
        self.runs = []  # (replay, (steps, their count)), or a function of Python and its arguments
        self.moves, self.made = [], []  # of numbers, and of other arguments
        where, at, steps = {}, 0, []
        for function, arguments in calls:
            replayer = native.replayer(function)
            if replayer is None:
                self._end(steps)
                self.runs.append((function, arguments))
                continue
            steps.append((replayer, self.numbers + at))
            where[id(arguments)] = at
            for kind, a in zip(ffi.typeof(function).args, arguments, strict=True):
                self.numbers[at] = number(kind, a)
                at += 1
        self._end(steps)
        for arguments, i, make, start, offset in places:
            if id(arguments) in where:
                self.moves.append((where[id(arguments)] + i, start, offset))
            else:
                self.made.append((arguments, i, make, start, offset))

    def _end(self, steps):
        """What was gathered runs as one."""
        if steps:
            self.runs.append((lib.replay, (ffi.new("step[]", steps), len(steps))))
            steps.clear()

    def run(self, starts):
        """Run it where the addresses that change are now these and so far from them."""
        for at, start, offset in self.moves:
            self.numbers[at] = starts[start] + offset
        for arguments, i, make, start, offset in self.made:
            arguments[i] = make(starts[start] + offset)
        for function, arguments in self.runs:
            function(*arguments)


def number(kind, argument):
    """What replay.h makes an argument of; kind: the C type of the parameter."""
    if kind.kind == "pointer":
        return int(ffi.cast("intptr_t", argument))
    if kind.cname == "double":
        return struct.unpack("q", struct.pack("d", argument))[0]
    return int(argument)
