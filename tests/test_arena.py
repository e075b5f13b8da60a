"""Memory planned by the life of each array."""

import numpy as np
import pytest

from flambeau import nn, nngraph

cpu = pytest.importorskip("flambeau.kernels.cpu")
from flambeau.kernels.cpu import arena, memory  # noqa: E402  where there are C kernels


def spans(lives, offsets):
    return [
        (o, o + size, first, last) for (size, first, last), o in zip(lives, offsets, strict=True)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_arrays_that_live_at_once_lie_apart(seed):
    draw = np.random.default_rng(seed)
    lives = []
    for _ in range(60):
        first, size = int(draw.integers(100)), int(draw.choice([0, 7, 64, 4096, 10_000, 70_000]))
        lives.append((size, first, first + int(draw.integers(1, 40))))
    offsets, total = arena.plan(lives)
    placed = spans(lives, offsets)
    for i, (start, end, first, last) in enumerate(placed):
        assert 0 <= start and end <= total and start % 64 == 0
        assert end - start < 4096 or start % 4096 == 0
        for s, e, f, d in placed[:i]:
            assert last <= f or d <= first or end <= s or e <= start
    most = max(sum(size for size, f, d in lives if f <= step < d) for step in range(140))
    assert total < 1.3 * most + 64 * len(lives)  # the rest is lost between them


def test_an_array_takes_the_place_of_one_that_died():
    lives = [(8192, 0, 2), (8192, 1, 3), (8192, 2, 5), (4096, 3, 5)]
    assert arena.plan(lives) == ([0, 8192, 0, 8192], 16384)


def test_watched_lives_are_those_of_the_arrays(monkeypatch):
    watched = arena.Watched()
    monkeypatch.setattr(memory, "arena", watched)
    a = memory.empty(100, "f4")
    b = memory.empty((2, 3), "f8")
    start = b.ctypes.data
    view = a[3:]
    del a
    c = memory.empty(1, "f4")
    del view, c
    assert [tuple(life) for life in watched.lives[:1]] == [(400, 1, 4)]
    assert [life[0] for life in watched.lives] == [400, 48, 4]
    assert watched.lives[1][2] > 10**9
    watched.keep(start)
    assert watched.lives[1][1:] == [0, watched.lives[1][2]]


def test_what_the_plan_does_not_know_has_memory_of_its_own(monkeypatch):
    planned = arena.Arena([(4096, 0, 2), (4096, 1, 3), (4096, 2, 4)])
    monkeypatch.setattr(memory, "arena", planned)
    first, second = memory.empty(1024, "f4"), memory.empty(1024, "f4")
    third = memory.empty(1024, "f4")  # planned where the first lies, which is still there
    other = memory.empty(99, "f8")
    arrays = first, second, third, other
    for i, array in enumerate(arrays):
        array[...] = i
    assert [set(array.tolist()) for array in arrays] == [{0.0}, {1.0}, {2.0}, {3.0}]
    assert len(planned.more) == 2
    for array in arrays:
        start, size = planned.block_of(array.ctypes.data)
        assert (start, size) == (array.ctypes.data, array.nbytes)


def test_recordings_take_about_what_lives_at_once():
    net = nn.Sequential(*[nn.Tanh() for _ in range(12)]).eval()
    fast = nngraph.optimize(net)
    x = np.zeros((1, 16, 64, 64), "f4")
    for _ in range(3):
        fast(x)
    (recording,) = vars(fast)["_recordings"].made.values()
    assert not recording.tape.arena.more
    assert recording.tape.arena.size == 3 * x.nbytes  # what comes, what goes, and the result
