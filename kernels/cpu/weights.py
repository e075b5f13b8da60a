"""Weights of convolutions as the kernels read them: made once and kept until the weights change."""

import functools
import itertools
import weakref

import numpy as np

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, memory, native

HASHED = 1 << 16  # bytes hashed in one go by a thread
TRAINED = 16  # times made anew one after another: the weights change at every step
SELDOM = 4  # of so many times, those are then looked at once

_kept = {}  # what identifies the weights -> Kept


class Kept:
    """What was made of one array: {key: array}, right as long as its fingerprint stays the same.

    seen: {key: the fingerprint when it was last made}. anew: how often in turn it was not kept.
    """

    def __init__(self, owner, identity):
        self.reference = weakref.ref(owner, lambda _: _kept.pop(identity, None))
        self.fingerprint, self.made, self.seen, self.anew = None, {}, {}, 0


def cannot_change(w):
    """True when nothing can write to the array: it is not writeable, nor part of another."""
    return not w.flags.writeable and w.flags.owndata


def fixed(w):
    """cannot_change(w); where it can, what was made of it while it could not is forgotten."""
    if cannot_change(w):
        return True
    _kept.pop(owner_of(w)[1], None)
    return False


def fingerprint(w):
    """A 64-bit hash of the array's bytes, None where they cannot change; its shape and dtype."""
    if cannot_change(w):
        return None, w.shape, w.dtype
    w = reference.contiguous(w)
    work = np.empty(-(-w.nbytes // HASHED), np.int64)
    return native.call("fingerprint", w, w.size, work, HASHED), w.shape, w.dtype


def owner_of(w):
    """The array that w is a view of, itself if it is none; and what identifies w.

    A view made afresh at each call is the same weights as the one before.
    """
    owner = w
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if owner is w:
        return w, id(w)
    return owner, (id(owner), w.__array_interface__["data"][0], w.shape, w.strides)


def kept(w, key, make):
    """make(w) for these weights, kept under the key from the second time on that they are the same.

    So what is trained, and other at every step, takes no memory between its uses, and after a while
    most uses do not even look whether it is the same. What is recorded makes it anew at each run,
    unless the weights cannot change and are said to be fixed.
    """
    tape = native.recorder
    if tape is not None and tape.is_mine() and not (tape.fixed and cannot_change(w)):
        return make(layout.arranged(w, False))
    entry = _entry(w)
    if entry.anew > TRAINED and entry.anew % SELDOM:
        entry.anew += 1
        return make(reference.contiguous(w))
    found = fingerprint(w)
    if found != entry.fingerprint:
        entry.made, entry.fingerprint = {}, found
    made = entry.made.get(key)
    entry.anew = 0 if made is not None else entry.anew + 1
    if made is None:
        made = make(reference.contiguous(w))
        if found[0] is None or entry.seen.get(key) == found:
            entry.made[key], entry.anew = made, 0
        entry.seen[key] = found
    return made


def kept_later(w, key, make):
    """make(w) of fixed weights, kept under the key from their second use on; None at the first.

    For what is worth making for many uses only. What is recorded takes it if it is there already.
    """
    tape, entry = native.recorder, _entry(w)
    if tape is not None and tape.is_mine():
        return entry.made.get(key) if tape.fixed else None
    if key not in entry.seen:
        entry.seen[key] = fingerprint(w)
        return None
    return kept(w, key, make)


def _entry(w):
    """What is kept of these weights, which may have changed since."""
    owner, identity = owner_of(w)
    entry = _kept.get(identity)
    if entry is None or entry.reference() is not owner:
        entry = _kept[identity] = Kept(owner, identity)
    return entry


@functools.cache
def panel_width():
    """How many results a panel holds: two vectors of the instruction set."""
    return native.call("panel_width", np.empty(1, np.float32))


@functools.cache
def lanes():
    """How many numbers a vector holds."""
    return panel_width() // 2


@functools.cache
def tile_rows():
    """How many rows of a product the registers hold."""
    return native.call("tile_rows", np.empty(1, np.float32))


def packing(w, groups, flipped):
    """How w (k, c/groups, p, q) is read for its panels, and how many numbers these have."""
    k, c, p, q = w.shape
    k, taps = k // groups, p * q
    strides = [k * c * taps, c * taps, taps, 1]  # of group, result, source, tap
    outs, ins, first = k, c, 0
    if flipped:
        outs, ins, first, strides = c, k, taps - 1, [k * c * taps, taps, c * taps, -1]
    size = groups * -(-outs // panel_width()) * panel_width() * taps * ins
    return np.array([groups, outs, ins, taps, *strides, first]), size


def panels(w, groups, flipped):
    """w (k, c/groups, p, q) packed for conv_last.c: (groups, panels, p, q, c/groups, width).

    flipped: for the gradient instead, (groups, panels, p, q, k/groups, width) with the taps in
    reverse, the panels being those of the channels c.
    """
    return kept(w, *panels_of(groups, flipped))


def panels_of(groups, flipped):
    """The key and the maker of panels, as kept() takes them."""
    return ("panels", groups, flipped), functools.partial(pack, groups, flipped)


def pack(groups, flipped, w):
    """The panels of w, made anew."""
    shape, size = packing(w, groups, flipped)
    to = memory.empty(size, w.dtype)
    native.call("pack_weights", w, to, shape)
    return to


@functools.lru_cache(maxsize=512)
def parting(shape, groups, parts):
    """How pack_parts reads w of a shape, and where each part begins, as does what is after all."""
    k, c, p, q = shape
    ins, width, starts = k // groups, panel_width(), [0]
    panels, places = groups * -(-c // width), np.full((p * q, 2), -1)
    for down, across in parts:
        taps = [i * q + j for i in range(p)[slice(*down)] for j in range(q)[slice(*across)]]
        size = len(taps) * ins * width
        for i, tap in enumerate(reversed(taps)):
            places[tap] = starts[-1] + i * ins * width, size
        starts.append(starts[-1] + panels * size)
    return np.array([groups, c, ins, p * q, *places.ravel()]), starts


def parts(w, groups, parts):
    """The flipped panels of some parts of the taps: ((from, to, step) down, across) of each."""

    def make(w):
        shape, starts = parting(w.shape, groups, parts)
        to = memory.empty(starts[-1], w.dtype)
        native.call("pack_parts", w, to, shape)
        return [to[a:b] for a, b in itertools.pairwise(starts)]

    return kept(w, ("parts", groups, parts), make)
