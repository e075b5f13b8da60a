"""Modules made of modules."""

from flambeau import kernels
from flambeau.nn.activation import ReLU
from flambeau.nn.container import Container, as_it_is, overlapping, taken
from flambeau.nn.conv import Conv2d
from flambeau.nn.linear import Linear
from flambeau.nn.module import who
from flambeau.nn.normalization import NORMS, BatchNorm2d
from flambeau.nn.pooling import MaxPool2d

WITH_RELU = *NORMS, Conv2d, Linear


def takes_behind(module):
    """True for a layer that computes a ReLU behind it too, in training; see WithReLU."""
    return as_it_is(module, *WITH_RELU) and module.training


def takes_before(module):
    """True for a layer that computes a ReLU before it too, in training; see WithReLU.

    A pooling whose taps lie apart could miss the image: its -inf there is no ReLU's.
    """
    return as_it_is(module, MaxPool2d) and module.training and module.options[3] == (1, 1)


class Sequential(Container):
    """y = f_n(… f_2(f_1(x)))

    x -> y, whatever the modules take and give.

    modules: Module, or (name, module) pairs, or one dictionary

    >>> from flambeau import nn
    >>> net = Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> net(np.ones((3, 4), "f4")).shape
    (3, 2)

    Source: Torch7's nn.Sequential.
    """

    def __init__(self, *modules):
        self.fill(modules)

    def forward(self, x):
        self.saved = None
        if self.training:
            y, kept = self._keeping(x)
            self.saved = x, kept
            return y
        for name in self.named:
            x = self.run(name, x)
        return x

    def forward_until_last(self, x):
        """What goes into the last module, in training; backward then takes its gradient."""
        y, kept = self._keeping(x, next(reversed(self.named)))
        self.saved = x, kept
        return y

    def _keeping(self, x, *without):
        shared = overlapping(self.named)
        relus = self._relus(shared)
        pools = self._pools(relus, shared)  # of these the ReLU is computed as well
        kept = dict.fromkeys([*relus.values(), *pools.values(), *without])
        last = next(reversed(self.named), None)  # its y is the caller's
        for name in self.named:
            if name in kept:
                continue
            enclosed = self.enclosed or name != last
            x = self.run(name, x, kept, shared, enclosed, name in relus, pools.get(name))
            if self.named[name].from_output and enclosed:
                kept[name] = x, *kept[name][1:]  # what came in dies
        return x, kept

    def _relus(self, shared):
        """{name of a layer: name of the ReLU before or behind it that is computed with it}"""
        found, items = {}, list(self.named.items())
        if not self.enclosed:
            items = items[:-1]  # the last y is the caller's, who may change it
        for i, (name, relu) in enumerate(items):
            if type(relu) is not ReLU or name in shared or not as_it_is(relu, ReLU):
                continue
            for j, takes in (i + 1, takes_before), (i - 1, takes_behind):
                if 0 <= j < len(items) and items[j][0] not in shared and takes(items[j][1]):
                    found[items[j][0]] = name
                    break
        return found

    def _pools(self, relus, shared):
        """{name of a normalisation: name of the pooling that is computed with it and a ReLU}"""
        pools = [name for name in relus if isinstance(self.named[name], MaxPool2d)]
        names, found = list(self.named) if pools else [], {}
        for pool in pools:
            at = names.index(relus[pool])
            norm = names[at - 1] if at > 0 and names[at - 1] not in shared else pool
            if as_it_is(self.named[norm], BatchNorm2d) and self.named[norm].training:
                found[norm] = pool
        return found

    def backward(self, x, dy):
        # in evaluation nothing was kept: the values between the layers are computed again
        kept = taken(self)[1] if self.saved else self._keeping(x)[1]
        names = list(self.named)
        learning = [self.named[name].learns() for name in names]
        for i in range(len(names) - 1, -1, -1):
            want_dx = self.want_dx or any(learning[:i])
            if kept[names[i]] is None:
                continue  # a layer before does it, or whoever took forward_until_last
            if not want_dx and not learning[i]:
                break
            dy = self.run_back(names[i], kept, dy, want_dx)
        return dy if self.want_dx else None

    def until(self, name):
        """The part up to and including the module of that name; dots go inside, "features.3"."""
        name, _, inner = name.partition(".")
        if name not in self.named:
            raise KeyError(
                f"until: no {name!r} in Sequential; the names are {', '.join(self.named)}"
            )
        part = self[: list(self.named).index(name) + 1]
        if inner:
            part[name] = part[name].until(inner)
        return part


class Branches(Container):
    """Abstract: each module has an input and an output of its own."""

    def forward(self, x):
        self.saved = None
        outputs, kept = self._keeping(x)
        if self.training:
            self.saved = x, kept, outputs
        return self.gather(outputs)

    def _keeping(self, x):
        kept, shared = {}, overlapping(self.named)
        parts = self.scatter(x)
        self.need(len(parts) == len(self), f"x must have {len(self)} parts", x=x)
        return tuple(
            self.run(name, part, kept, shared) for name, part in zip(self.named, parts, strict=True)
        ), kept

    def backward(self, x, dy):
        kept, outputs = taken(self)[1:] if self.saved else reversed(self._keeping(x))
        dys = self.scatter_back(outputs, dy)
        dxs = [
            self.run_back(name, kept, part, self.want_dx)
            for name, part in zip(self.named, dys, strict=True)
        ]
        return self.gather_back(x, dxs) if self.want_dx else None

    def scatter(self, x):
        """The inputs of the modules."""
        return [x] * len(self)

    def gather(self, outputs):
        """The output, from those of the modules."""
        return outputs

    def scatter_back(self, outputs, dy):
        """The gradients of the modules' outputs."""
        return dy

    def gather_back(self, x, dxs):
        """The gradient of the input, from those of the modules."""
        return add_tables(dxs)


class ConcatTable(Branches):
    """y = (f_1(x), f_2(x), …)

    x -> tuple of outputs.        Source: Torch7's nn.ConcatTable.

    >>> from flambeau import nn
    >>> a, b = ConcatTable(nn.Identity(), nn.ReLU())(np.array([-1.0, 1.0]))
    >>> b.tolist()
    [0.0, 1.0]
    """

    def __init__(self, *modules):
        self.fill(modules)


class ParallelTable(Branches):
    """y = (f_1(x_1), f_2(x_2), …)

    tuple of inputs -> tuple of outputs.        Source: Torch7's nn.ParallelTable.

    >>> from flambeau import nn
    >>> net = ParallelTable(nn.Linear(2, 3), nn.ReLU())
    >>> [y.shape for y in net(np.ones((1, 2)), np.ones(4))]
    [(1, 3), (4,)]
    """

    def __init__(self, *modules):
        self.fill(modules)

    def scatter(self, x):
        self.need(isinstance(x, tuple), "x must be a tuple", x=x)
        return x

    def gather_back(self, x, dxs):
        return tuple(dxs)


class Concat(Branches):
    """y = f_1(x), f_2(x), … one after another along an axis

    x -> y, the outputs alike but for that axis.        Source: Torch7's nn.Concat.

    >>> from flambeau import nn
    >>> Concat(1, nn.Linear(2, 3), nn.Linear(2, 4))(np.ones((5, 2), "f4")).shape
    (5, 7)
    """

    options = ("axis",)

    def __init__(self, axis, *modules):
        self.axis = axis
        self.fill(modules)

    def gather(self, outputs):
        return join(self, outputs, self.axis)

    def scatter_back(self, outputs, dy):
        return kernels.of(dy).split(dy, [y.shape[self.axis] for y in outputs], self.axis)


class Parallel(Branches):
    """y = f_1(x[0]), f_2(x[1]), … : x taken apart along one axis, the outputs joined along another

    x with as many entries along axis_in as there are modules -> y.
    Source: Torch7's nn.Parallel.

    >>> from flambeau import nn
    >>> Parallel(1, 1, nn.Linear(4, 3), nn.Linear(4, 2))(np.ones((5, 2, 4), "f4")).shape
    (5, 5)
    """

    options = "axis_in", "axis_out"

    def __init__(self, axis_in, axis_out, *modules):
        self.axis_in, self.axis_out = axis_in, axis_out
        self.fill(modules)

    def scatter(self, x):
        n = len(self)
        fits = -x.ndim <= self.axis_in < x.ndim and x.shape[self.axis_in] == n
        self.need(fits, f"axis {self.axis_in} of x must have {n} entries", x=x)
        k = kernels.of(x)
        pieces = k.split(x, [1] * n, self.axis_in)
        axis = self.axis_in % x.ndim
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        return [k.contiguous(piece).reshape(shape) for piece in pieces]

    def gather(self, outputs):
        return join(self, outputs, self.axis_out)

    def scatter_back(self, outputs, dy):
        return kernels.of(dy).split(dy, [y.shape[self.axis_out] for y in outputs], self.axis_out)

    def gather_back(self, x, dxs):
        k = kernels.of(x)
        axis = self.axis_in % x.ndim
        shape = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
        return k.concatenate([k.contiguous(dx).reshape(shape) for dx in dxs], axis)


def join(module, arrays, axis):
    """Arrays one after another along an axis, after a check that they fit."""
    first = arrays[0].shape
    if not -len(first) <= axis < len(first):
        raise ValueError(f"{who(module)}: axis {axis} must be one of {len(first)} — got {first}")
    rest = [a.shape[: axis % len(first)] + a.shape[axis % len(first) + 1 :] for a in arrays]
    if any(r != rest[0] or a.ndim != len(first) for r, a in zip(rest, arrays, strict=True)):
        raise ValueError(
            f"{who(module)}: the arrays must be alike but for axis {axis} — got "
            + ", ".join(str(tuple(a.shape)) for a in arrays)
        )
    return kernels.of(arrays[0]).concatenate(list(arrays), axis)


def add_tables(values):
    """The sum of arrays, or of tuples of them, however nested."""
    values = list(values)
    if isinstance(values[0], tuple):
        return tuple(add_tables(parts) for parts in zip(*values, strict=True))
    return kernels.of(values[0]).add(values) if len(values) > 1 else values[0]
