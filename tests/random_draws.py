"""Random calls of kernels: how arrays are drawn, and how C is held against NumPy's reference."""

import traceback
from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

import numpy as np

from flambeau import kernels
from flambeau.kernels import cpu, reference

WIDTHS = [1, 2, 3, 4, 5, 7, 8, 9, 14, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 100]
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e30, -1e30, 1e-30, 88.0, -88.0, 710.0, -104.0]


class Within(NamedTuple):
    """How far a result may be from the reference's.

    terms: of sums. The rounding of a sum of n products of numbers near 1 walks: each of n steps is
    off by eps of a partial sum of √n at most, together by eps √n of the greatest. `times` that is
    allowed, of √n or the greatest result. None: `times` eps of each result, or of 1.
    """

    times: float
    terms: int | None = None

    def allowed(self, want, eps):
        size = np.abs(np.where(np.isfinite(want), want, 0)).astype("f8")
        if self.terms is None:
            return self.times * eps * np.maximum(size, 1)
        root = sqrt(max(1, self.terms))
        return self.times * eps * root * max(root, size.max(initial=0))


EXACT = Within(0)


def sums(terms, times=8):
    return Within(times, terms)


class Call(NamedTuple):
    """A kernel, its arguments, how near its results must come, and the arrays that it changes."""

    name: str
    args: tuple
    within: Within
    changed: Within | None = None  # as within
    common: Callable = lambda found: found  # what of the results every package gives


class Draw:
    """What is drawn for the calls of one seed."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.dtype = np.dtype(self.pick("f4", "f4", "f4", "f4", "f8"))
        self.guarded = []  # (array, the part of it that a kernel gets): the rest is NaN

    def chance(self, p):
        return self.random.random() < p

    def pick(self, *choices):
        return choices[int(self.random.integers(len(choices)))]

    def whole(self, low, high):
        return int(self.random.integers(low, high + 1))

    def size(self, most=40):
        """A number around the widths of vectors and tiles, or any."""
        return self.pick(*WIDTHS) if self.chance(0.5) else self.whole(1, most)

    def shape(self, least=1, most=4):
        """The shape of an array of not too many elements."""
        while True:
            shape = tuple(self.size(30) for _ in range(self.whole(least, most)))
            if np.prod(shape) < 1e5:
                return shape

    def values(self, *shape):
        """Small integers, whose sums are exact, or a normal distribution; C-contiguous."""
        if self.chance(0.5):
            return self.random.integers(-3, 4, shape).astype(self.dtype)
        return self.random.standard_normal(shape).astype(self.dtype)

    def array(self, *shape):
        return self.laid(self.values(*shape))

    def special(self, *shape):
        """Now and then of great values, or with some that are none."""
        a = self.random.standard_normal(shape) * self.pick(1, 1, 3, 30)
        if self.chance(0.25):
            places = self.random.integers(0, a.size, max(1, a.size // 10))
            a.reshape(-1)[places] = self.random.choice(SPECIAL, len(places))
        return self.laid(a.astype(self.dtype))

    def maybe(self, p, *shape):
        """Values, or None."""
        return self.values(*shape) if self.chance(p) else None

    def laid(self, a):
        """The same values in memory of some order, with steps and more around it."""
        if a.ndim == 0 or self.chance(0.3):
            return a
        axes = list(range(a.ndim))
        order = axes
        if self.chance(0.6):  # channels last
            order = [0, *axes[2:], *axes[1:2]]
        elif self.chance(0.3):
            order = self.random.permutation(a.ndim).tolist()
        margins, steps = [(0, 0)] * a.ndim, [1] * a.ndim
        if self.chance(0.4):
            axis = self.pick(*axes, *axes[1:])
            margins[axis] = self.whole(0, 20), self.whole(0, 20)
        if self.chance(0.15):
            steps[self.whole(0, a.ndim - 1)] = self.pick(-1, 2)
        if a.ndim == 4 and self.chance(0.1):
            margins[2:] = [(self.whole(0, 3), self.whole(0, 3)) for _ in "hw"]
        sizes = [abs(s) * n + sum(m) for n, m, s in zip(a.shape, margins, steps, strict=True)]
        base = np.full([sizes[i] for i in order], np.nan, a.dtype)
        part = base.transpose(np.argsort(order))
        for axis, ((before, _), n, s) in enumerate(zip(margins, a.shape, steps, strict=True)):
            part = np.moveaxis(np.moveaxis(part, axis, 0)[before:][: abs(s) * n : abs(s)], 0, axis)
        part = part[tuple(slice(None, None, -1 if s < 0 else 1) for s in steps)]
        part[...] = a
        self.guarded.append((base, part))
        return part

    def need_guards(self):
        for base, part in self.guarded:
            outside = np.isnan(base).sum() - np.isnan(part).sum()
            assert outside == base.size - part.size, "wrote beside an array"


def spread(function, x):
    """function of each array in lists and tuples; the rest as it is."""
    if isinstance(x, (list, tuple)):
        return [spread(function, v) for v in x]
    return function(x) if isinstance(x, np.ndarray) else x


def described(x):
    """Arguments as text: arrays by shape, dtype and strides."""
    if isinstance(x, (list, tuple)):
        return f"({', '.join(map(described, x))})"
    if isinstance(x, np.ndarray) and x.ndim:
        steps = "" if x.flags.c_contiguous else f" strides {[s // x.itemsize for s in x.strides]}"
        return f"{x.dtype}{list(x.shape)}{steps}"
    return repr(x)


def agree(what, got, want, within, eps):
    """AssertionError unless got is want, up to what is allowed."""
    if isinstance(want, (list, tuple)):
        assert len(got) == len(want), f"{what}: {len(got)} results instead of {len(want)}"
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            agree(f"{what}[{i}]", a, b, within, eps)
        return
    if want is None or got is None:
        assert got is want, f"{what}: {got!r:.60} instead of {want!r:.60}"
        return
    if isinstance(want, np.ndarray):
        assert (got.shape, got.dtype) == (want.shape, want.dtype), (
            f"{what}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
        )
    got, want = np.asarray(got), np.asarray(want)
    if want.dtype.kind != "f":
        assert np.array_equal(got, want), f"{what}: other numbers"
        return
    finite = np.isfinite(want)
    assert np.array_equal(got[~finite], want[~finite], equal_nan=True), f"{what}: not finite"
    assert np.isfinite(got[finite]).all(), f"{what}: not finite where the reference is"
    off = np.abs(np.where(finite, got, 0).astype("f8") - np.where(finite, want, 0))
    over = off - within.allowed(want, eps)
    if over.size and over.max() > 0:
        place = np.unravel_index(over.argmax(), over.shape)
        raise AssertionError(
            f"{what}: {got[place]!r} instead of {want[place]!r} at {tuple(map(int, place))}, "
            f"{(over > 0).sum()} of {over.size} are too far, by up to {over.max():.3g}"
        )


def check(draw, call):
    """One call in both packages: results and arguments afterwards agree. Gives C's results."""
    name, args, within, changed, common = call
    theirs = spread(np.array, args)
    eps = np.finfo(draw.dtype).eps
    with np.errstate(all="ignore"):
        want = getattr(reference, name)(*theirs)
        got = getattr(cpu, name)(*args)
    agree(name, common(got), common(want), within, eps)
    agree(f"{name}'s arguments", list(args), theirs, changed or within, eps)
    draw.need_guards()
    return got


def run(family, seed):
    """The calls of one seed. A failure tells the seed and the call."""
    draw, result, call = Draw(seed), None, None
    before = kernels.get_num_threads()
    threads = draw.pick(1, 2, 2, 3)
    kernels.set_num_threads(threads)
    calls = family(draw)
    try:
        while True:
            call = calls.send(result)
            result = check(draw, call)
    except StopIteration:
        return
    except Exception as error:
        text = f"{call.name}{described(call.args)}" if call else "the first call was not drawn"
        error.add_note(f"{family.__name__}, seed {seed}, {threads} threads: {text}")
        raise
    finally:
        kernels.set_num_threads(before)


def told(error):
    """A failure in a few lines."""
    lines = traceback.format_exception_only(error)
    if not isinstance(error, AssertionError):
        lines = traceback.format_exception(error)
    return "".join(lines).rstrip()
