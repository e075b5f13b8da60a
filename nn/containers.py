"""Modules made of modules."""

from flambeau import kernels
from flambeau.nn import saving
from flambeau.nn.activation import ReLU
from flambeau.nn.conv import Conv2d
from flambeau.nn.linear import Linear
from flambeau.nn.module import Arguments, Module, who
from flambeau.nn.normalization import NORMS
from flambeau.nn.pooling import MaxPool2d


class Container(Module):
    """Abstract: an ordered, named list of modules. Source: Torch7's nn.Container."""

    options = ()  # attributes that stand before the modules in the constructor

    def fill(self, modules):
        """Take modules, (name, module) pairs or one dictionary of them; names default to 0, 1, …"""
        self.arguments = Arguments((), {})
        self.named = {}
        if len(modules) == 1 and isinstance(modules[0], dict):
            modules = tuple(modules[0].items())
        for item in modules:
            name, module = item if isinstance(item, tuple) else (str(len(self.named)), item)
            self.append(module, name)

    def append(self, module, name=None):
        """Add a module at the end; returns the container, so calls can be chained."""
        self.insert(len(self.named), module, name)
        return self

    def insert(self, index, module, name=None):
        """Put a module before the one at index. Where the names are 0, 1, …, they are made anew."""
        if not isinstance(module, Module):
            raise TypeError(
                f"{type(self).__name__}: a part must be a Module — got {type(module).__name__} "
                f"{module!r:.60}"
                + (f"; did you mean {module.__name__}()?" if isinstance(module, type) else "")
            )
        items = list(self.named.items())
        name = str(len(items)) if name is None else name
        if "." in name or (name in self.named and not self._numbered()):
            problem = "holds a dot" if "." in name else "is taken"
            raise ValueError(f"{type(self).__name__}: the name {name!r} {problem}")
        numbered = self._numbered() and name.isdecimal()
        items.insert(index, (name, module))
        self.named = {str(i): m for i, (_, m) in enumerate(items)} if numbered else dict(items)
        return self

    def remove(self, key):
        """Take a module out, by index or name, and return it."""
        module = self[key]
        name = key if isinstance(key, str) else list(self.named)[key]
        numbered = self._numbered()
        items = [(n, m) for n, m in self.named.items() if n != name]
        self.named = {str(i): m for i, (_, m) in enumerate(items)} if numbered else dict(items)
        return module

    def _numbered(self):
        return list(self.named) == [str(i) for i in range(len(self.named))]

    def children(self):
        return list(self.named.items())

    def set_child(self, name, module):
        self.named[name] = module

    def __len__(self):
        return len(self.named)

    def __iter__(self):
        return iter(self.named.values())

    def __getitem__(self, key):
        """A module by index or name; a slice gives a container of the same kind sharing them."""
        if isinstance(key, slice):
            items = list(self.named.items())[key]
            pairs = [m for _, m in items] if self._numbered() else items
            part = type(self)(*(getattr(self, name) for name in self.options), *pairs)
            part.training, part.frozen = self.training, self.frozen
            return part
        if isinstance(key, str):
            if key not in self.named:
                raise KeyError(f"no {key!r} in {type(self).__name__}: {', '.join(self.named)}")
            return self.named[key]
        return list(self.named.values())[key]

    def __setitem__(self, key, module):
        self.set_child(key if isinstance(key, str) else list(self.named)[key], module)

    def __repr__(self):
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.options)
        lines = [f"  ({name}) " + repr(m).replace("\n", "\n  ") for name, m in self.named.items()]
        return (
            f"{type(self).__name__}({given}"
            + "".join("\n" + line for line in lines)
            + ("\n)" if lines else ")")
        )

    def config(self):
        return saving.header(self) | {
            "options": [saving.encode(getattr(self, name)) for name in self.options],
            "children": [[name, m.config()] for name, m in self.named.items()],
            "shared": _repeats(list(self.named.values())),
        }

    @classmethod
    def from_config(cls, config):
        built = []
        for index, (name, child) in enumerate(config["children"]):
            first = config["shared"][index]
            built.append((name, built[first][1] if first < index else saving.decode(child)))
        self = cls(*(saving.decode(v) for v in config["options"]), *built)
        self.training, self.frozen = config["training"], config["frozen"]
        return self

    def at(self, error, name):
        """Note on an error which layer it passed."""
        error.add_note(f"in layer {name} of {type(self).__name__}")

    def run(self, name, x, keep=None, shared=(), inner=False, relu=False):
        """The output of one child; what it must keep for backward goes into the dictionary `keep`.

        shared: see `overlapping`; what these children save would be overwritten.
        inner: True when the output goes to other modules only.
        relu: True when the child computes a ReLU too, see WithReLU.
        """
        module = self.named[name]
        try:
            module.inner = inner
            y = module.forward_relu(x) if relu else module.forward(x)
        except Exception as error:
            self.at(error, name)
            raise
        finally:
            module.inner = False
        if keep is not None:
            x = None if module.from_saved and module.training else x
            keep[name] = x, module.take_saved() if name in shared else None, y if relu else None
        return y

    def run_back(self, name, kept, dy, want_dx):
        """The gradient of one child's input, after `run`; None where nobody wants it."""
        module = self.named[name]
        x, state, y = kept.pop(name) if self.backward_once else kept[name]
        if not want_dx and not module.learns():
            return None
        module.want_dx, module.backward_once = want_dx, self.backward_once
        if state is not None:
            module.put_saved(state)
        try:
            dx = module.backward(x, dy) if y is None else module.backward_relu(x, y, dy)
        except Exception as error:
            self.at(error, name)
            raise
        finally:
            module.backward_once = False  # it is the container's wish, not the module's own
        if self.backward_once:
            spent(module)
        return dx


SPENT = "spent"  # what a container has saved after its one backward


def taken(container):
    """What the container saved for backward; with backward_once this is the only time.

    Raises ValueError when it was taken before.
    """
    saved = container.saved
    once = "with backward_once there is one backward to each forward; this is the second"
    container.need(saved is not SPENT, once)
    if container.backward_once:
        container.saved = SPENT
    return saved


def spent(module):
    """Let go of what a module kept, after its one backward."""
    if module.saved is not SPENT:
        module.saved = None


def as_it_is(module, *kinds):
    """True for a module of just such a class whose methods nobody has put others in place of."""
    return type(module) in kinds and not {"forward", "backward"} & vars(module).keys()


def takes_behind(module):
    """True for a layer that computes a ReLU behind it too, in training; see WithReLU."""
    return as_it_is(module, *NORMS, Conv2d, Linear) and module.training


def takes_before(module):
    """True for a layer that computes a ReLU before it too, in training; see WithReLU.

    A pooling whose taps lie apart could miss the image: its -inf there is no ReLU's.
    """
    return as_it_is(module, MaxPool2d) and module.training and module.options[3] == (1, 1)


def overlapping(named):
    """The names of the modules that have a module, themselves or inside, in common with others.

    >>> from flambeau import nn
    >>> norm = nn.BatchNorm1d(3)
    >>> overlapping({"a": norm, "b": nn.ReLU(), "c": nn.Sequential(norm)}) == {"a", "c"}
    True
    """
    holders, found = {}, set()
    for name, module in named.items():
        for part in module.modules():
            first = holders.setdefault(id(part), name)
            if first != name:
                found |= {first, name}
    return found


def _repeats(modules):
    """For each module the index at which it first occurs."""
    return [next(i for i, m in enumerate(modules) if m is module) for module in modules]


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

    def _keeping(self, x):
        kept, shared = {}, overlapping(self.named)
        relus = self._relus(shared)
        kept |= dict.fromkeys(relus.values())
        last = next(reversed(self.named), None)  # its y is the caller's
        for name in self.named:
            if name in kept:
                continue
            inner = self.inner or name != last
            x = self.run(name, x, kept, shared, inner, name in relus)
            if self.named[name].from_output and inner:
                kept[name] = x, *kept[name][1:]  # what came in dies
        return x, kept

    def _relus(self, shared):
        """{name of a layer: name of the ReLU before or behind it that is computed with it}"""
        found, items = {}, list(self.named.items())
        if not self.inner:
            items = items[:-1]  # the last y is the caller's, who may change it
        for i, (name, relu) in enumerate(items):
            if name in shared or not as_it_is(relu, ReLU):
                continue
            behind, before = items[i + 1 : i + 2], items[i - 1 : i] if i else []
            takers = [n for n, m in behind if n not in shared and takes_before(m)]
            takers += [n for n, m in before if n not in shared and takes_behind(m)]
            found |= {taker: name for taker in takers[:1]}
        return found

    def backward(self, x, dy):
        # in evaluation nothing was kept: the values between the layers are computed again
        kept = taken(self)[1] if self.saved else self._keeping(x)[1]
        names = list(self.named)
        learning = [self.named[name].learns() for name in names]
        for i in range(len(names) - 1, -1, -1):
            want_dx = self.want_dx or any(learning[:i])
            if kept[names[i]] is None:
                continue  # the layer before does it
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
