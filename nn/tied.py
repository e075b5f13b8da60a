"""Parameters that are one memory, by one array or by several views of it: found and kept so.

`decoder.weight = encoder.weight.T` makes one parameter of two: a view in which every element is
one of the other's. What such views have in common is their memory in its own order, the block; a
view of the block is described by its shape and strides alone.
"""

from operator import is_
from typing import NamedTuple

import numpy as np

from flambeau import kernels


class Layout(NamedTuple):
    """How a view goes through its block."""

    shape: tuple
    strides: tuple


def _address(a):
    """Where the first element lies."""
    return a.__array_interface__["data"][0] if isinstance(a, np.ndarray) else int(a.gpudata)


def _reach(a):
    """How far the elements of a lie before its first, and the last byte behind it."""
    steps = [(n - 1) * s for n, s in zip(a.shape, a.strides, strict=True)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + a.dtype.itemsize


def memory(a):
    """The same for two arrays exactly when they hold the same elements of memory."""
    size = a.size
    if size == 0:
        return id(a)
    if isinstance(a, np.ndarray):
        about = a.__array_interface__
        if about["strides"] is None:  # C-contiguous: the most common, and slots() is to be quick
            return about["data"][0], a.dtype, size, a.itemsize
    blocks = []  # numbers and steps of what lies at equal distances, from the longest step
    order, _ = _turns(a)
    for n, step in ((a.shape[i], abs(a.strides[i])) for i in order if a.shape[i] > 1):
        if blocks and blocks[-1][1] == n * step:
            n *= blocks.pop()[0]
        blocks.append((n, step))
    return _address(a) + _reach(a)[0], a.dtype, *(v for block in blocks for v in block)


def _turns(like):
    """The axes from the longest stride to the shortest; slices that turn round negative ones."""
    order = sorted(range(len(like.shape)), key=lambda i: -abs(like.strides[i]))
    return order, tuple(slice(None, None, -1 if s < 0 else None) for s in like.strides)


def _ordered(like):
    return tuple(like.shape[i] for i in _turns(like)[0])


def block(a, like):
    """A view of a, of whose layout `like` is, in the order of its memory."""
    order, turned = _turns(like)
    if any(part.step for part in turned):
        a = a[turned]
    return a if order == sorted(order) else a.transpose(order)


def view(block, like):
    """The view of a block that goes through it as `like` does: undoes `block`."""
    order, turned = _turns(like)
    shape = _ordered(like)
    y = block if tuple(block.shape) == shape else block.reshape(shape)
    if order != sorted(order):
        y = y.transpose([order.index(i) for i in range(len(order))])
    return y[turned] if any(part.step for part in turned) else y


def follow(a, old, like):
    """A view of a that is to a as `like` is to `old`, and a: a copy where it has no such view."""
    part = block(a, old)
    if not part.flags.c_contiguous and tuple(part.shape) != _ordered(like):
        part = kernels.of(a).copy(part)
        a = view(part, old)
    return view(part, like), a


def changed(arrays, change):
    """{id of an array: change(it)}; what was one memory is one afterwards."""
    groups, new = {}, {}
    for a in {id(a): a for a in arrays}.values():
        groups.setdefault(memory(a), []).append(a)
    for views in groups.values():
        if len(views) == 1:
            new[id(views[0])] = change(views[0])
            continue
        before = block(views[0], views[0])
        after = change(before)
        for a in views:
            new[id(a)] = a if after is before else view(after, a)
    return new


# ---- the parameters of a network


def holders(net, make=False):
    """For each memory that is learned: who holds it, a list of (dotted name, module, attribute).

    Their gradients are one memory afterwards too, as far as they are there. make: make them.
    """
    return _grouped(*_learned(net, None), make)


def _learned(net, known):
    """The places of all parameters, and for each what is the same where they are one memory."""
    slots, arrays = [], []
    for path, module in net.named_modules():
        prefix = f"{path}." if path else ""
        for name in module.params:
            a = getattr(module, name)
            if a is not None:
                slots.append((prefix + name, module, name))
                arrays.append(a)
    return slots, _keys(arrays, known)


def _grouped(slots, keys, make):
    found = {}
    for key, slot in zip(keys, slots, strict=True):
        found.setdefault(key, []).append(slot)
    for held in found.values():
        for other in held[1:]:
            _tie(held[0], other, make)
    return list(found.values())


def _keys(arrays, known):
    """What is the same for two of the arrays that are one memory."""
    for a in arrays:
        if type(a) is not np.ndarray or a.base is not None:
            break
    else:
        return list(map(id, arrays))  # no views: one memory only where they are one array
    if known and len(known[0]) == len(arrays) and all(map(is_, known[0], arrays)):
        return known[1]
    keys = list(map(memory, arrays))
    if known is not None:
        known[:] = arrays, keys
    return keys


def slots(net, make=False, known=None):
    """(dotted name, module, attribute) of each memory that is learned, once.

    That of the first who holds it, or of the first who is frozen: then nobody may change it.
    Gradients: as `holders` has it. known: a list of the caller's, in which this function keeps
    what it need not find out again at the next call.
    """
    slots, keys = _learned(net, known)
    if len(set(keys)) == len(keys):
        return slots
    held = _grouped(slots, keys, make)
    return [next((slot for slot in same if slot[1].frozen), same[0]) for same in held]


def _tie(one, other, make):
    """Make one memory of the gradients of two who hold the same parameter: what came is summed."""
    (path, first, name), (twin_path, twin, twin_name) = one, other
    if first.frozen or twin.frozen:
        return
    key, twin_key = "grad_" + name, "grad_" + twin_name
    w, twin_w = getattr(first, name), getattr(twin, twin_name)
    grad, twin_grad = first.__dict__.get(key), twin.__dict__.get(twin_key)
    if grad is None and twin_grad is None and make:
        grad = getattr(first, key)
    if grad is None:
        if twin_grad is not None:
            grad, made = follow(twin_grad, twin_w, w)
            setattr(first, key, grad)
            setattr(twin, twin_key, made)
        return
    if twin_grad is grad and w is twin_w:
        return
    expected, made = (grad, grad) if w is twin_w else follow(grad, w, twin_w)
    if twin_grad is not None:
        if _same(expected, twin_grad):
            return
        if _overlap(grad, twin_grad):
            raise ValueError(
                f"{twin_path}: {twin_key} must be to {key} of {path} as {twin_name} is to "
                f"{name}, or be apart from it, where the parameters are one memory "
                "— got another view of the same memory"
            )
        k = kernels.of(grad)
        k.accumulate(expected, twin_grad)
        k.fill(twin_grad, 0)  # another network may have it too, and bring it here again
    setattr(first, key, made)
    setattr(twin, twin_key, expected)


def _same(a, b):
    """True for two arrays, or views, of the same elements in the same order."""
    if a is b:
        return True
    if a.shape != b.shape or a.dtype != b.dtype or _address(a) != _address(b):
        return False
    steps = zip(a.shape, a.strides, b.strides, strict=True)
    return a.size == 0 or all(s == t for n, s, t in steps if n > 1)


def _overlap(a, b):
    """True when some element lies in both."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.shares_memory(a, b)
    (low, high), (other_low, other_high) = (
        tuple(_address(x) + reach for reach in _reach(x)) for x in (a, b)
    )
    return low < other_high and other_low < high


def need_apart(slots):
    """Raise ValueError where two parameters share a part of their memory: both would change it."""
    spans = []
    for slot in slots:
        a = getattr(slot[1], slot[2])
        if a.size:
            low, high = (_address(a) + reach for reach in _reach(a))
            spans.append((low, high, slot[0], a))
    spans.sort(key=lambda span: span[:2])
    for i, (_, high, path, a) in enumerate(spans):
        for low, _, other, b in spans[i + 1 :]:
            if low >= high:
                break
            if type(a) is type(b) and _overlap(a, b):
                raise ValueError(
                    f"{path} and {other}: two parameters must be the same memory or have none in "
                    f"common — got {tuple(a.shape)} and {tuple(b.shape)}, which overlap"
                )


# ---- pickle and deepcopy


class View(NamedTuple):
    """A parameter by what it is a view of, which its twins are views of as well."""

    base: np.ndarray
    start: int
    shape: tuple
    strides: tuple

    def array(self):
        base = self.base if self.base.flags.c_contiguous else self.base.T
        return np.ndarray(self.shape, base.dtype, base, self.start, self.strides)


def pickled(module):
    """What pickle keeps of a module: views of an array with the whole of it, as PyTorch does."""
    state = dict(vars(module))
    for name in (*module.params, *("grad_" + name for name in module.params)):
        a = state.get(name)
        base = a.base if type(a) is np.ndarray and a.size else None
        if type(base) is np.ndarray and base.dtype == a.dtype and base.flags.forc:
            state[name] = View(base, _address(a) - _address(base), a.shape, a.strides)
    return state


def unpickled(state):
    """The attributes of a module from what `pickled` gave."""
    return {name: v.array() if isinstance(v, View) else v for name, v in state.items()}
