"""Where a tape's arrays lie: one block of memory, planned by the life of each.

What is recorded takes and gives back memory in the same order every time. A first pass is watched:
how large each array is, after how many others it comes and with which it dies. Those that never
live at once may then lie in the same place.
"""

import threading

import numpy as np

from flambeau.kernels.cpu import memory
from flambeau.kernels.cpu._native import ffi

PAGE = 4096  # bytes; larger arrays start at a multiple of them
LINE = 64  # bytes; smaller ones too
FOREVER = 1 << 62


class Watched:
    """Memory for arrays in the Python thread that made it; their lives are written down.

    lives: for each array [bytes, number of the step it came with, and of the one it died with].
    """

    def __init__(self):
        self.thread, self.steps, self.lives, self.places = threading.get_ident(), 0, [], []

    def is_mine(self):
        """True in the Python thread that made the arena."""
        return self.thread == threading.get_ident()

    def block(self, size):
        """The owner of a new block."""
        owner, life = taken(size), [size, self._step(), FOREVER]
        self.lives.append(life)
        self.places.append(address(owner))
        return ffi.gc(owner, lambda _: self._died(life))

    def block_of(self, place):
        """Some block, whatever the address: what is watched is not run again, and keeps nothing."""
        return place, 0

    def keep(self, place):
        """Let the array that was last at an address have its place for itself."""
        for life, start in zip(reversed(self.lives), reversed(self.places), strict=True):
            if start <= place < start + max(1, life[0]):
                life[1:] = 0, FOREVER
                return

    def _step(self):
        self.steps += 1
        return self.steps

    def _died(self, life):
        life[2] = min(life[2], self._step())


class Arena:
    """Memory as planned for arrays that come in the same order: see Watched.

    An array that the plan does not know, or whose place is not free yet, has memory of its own.
    """

    def __init__(self, lives):
        self.thread = threading.get_ident()
        offsets, total = plan(lives)
        self.base = taken(total)
        self.next = {}  # size: the places of the arrays of this size, the last first
        for (size, _, _), offset in reversed(list(zip(lives, offsets, strict=True))):
            self.next.setdefault(size, []).append(offset)
        self.size, self.more, self.living = total, [], {}

    is_mine = Watched.is_mine

    def block(self, size):
        """The owner of the place of the next array of a size."""
        places = self.next.get(size)
        offset = places.pop() if places else None
        if offset is None or self._is_taken(offset, size):
            owner = taken(size)
            self.more.append((owner, size))
            return ffi.gc(owner, lambda _: None)  # it stays the arena's
        self.living[offset] = size
        return ffi.gc(self.base + offset, lambda _: self.living.pop(offset, None))

    def block_of(self, place):
        """(start, bytes) of the living array at an address, or None."""
        start = address(self.base)
        spans = [(start + offset, size) for offset, size in self.living.items()]
        for first, size in spans + [(address(owner), size) for owner, size in self.more]:
            if first <= place < first + max(1, size):
                return first, size
        return None

    def _is_taken(self, offset, size):
        end = offset + size
        return any([o < end and offset < o + n for o, n in self.living.items()])


def taken(size):
    """The owner of memory."""
    owner = memory.allocated(max(1, size))
    if owner is None:
        raise MemoryError(f"a recording needs {size} bytes more")
    return owner


def address(owner):
    """The number of an address."""
    return int(ffi.cast("uintptr_t", owner))


def plan(lives):
    """Where arrays lie that live from step to step, so that no two meet: offsets, and bytes in all.

    lives: (bytes, first step, last step) of each. The largest are placed first, each at the lowest
    place that is free for its life.

    >>> plan([(4096, 0, 2), (8192, 1, 4), (4096, 3, 5)])
    ([8192, 0, 8192], 12288)
    """
    offsets, placed = [0] * len(lives), np.empty((4, len(lives)), np.int64)
    order = sorted(range(len(lives)), key=lambda i: (-lives[i][0], i))
    total = 0
    for done, i in enumerate(order):
        size, first, last = lives[i]
        step = PAGE if size >= PAGE else LINE
        size = -(-max(1, size) // step) * step
        starts, ends, born, died = placed[:, :done]
        beside = (born < last) & (first < died)
        offsets[i] = lowest(starts[beside], ends[beside], size, step)
        placed[:, done] = offsets[i], offsets[i] + size, first, last
        total = max(total, offsets[i] + size)
    return offsets, total


def lowest(starts, ends, size, step):
    """The lowest multiple of step from which `size` numbers are in none of the spans."""
    order = np.argsort(starts)
    starts, ends = starts[order], np.maximum.accumulate(ends[order]) if len(ends) else ends
    before = np.concatenate([[0], -(-ends // step) * step])
    after = np.concatenate([starts, [FOREVER]])
    return int(before[np.argmax(after - before >= size)])
