"""What containers have in common: named children, and what they keep for backward."""

from flambeau.nn import saving
from flambeau.nn.module import Arguments, Module


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

    def run(self, name, x, keep=None, shared=(), enclosed=False, relu=False, pool=None):
        """The output of one child; what it must keep for backward goes into the dictionary `keep`.

        shared: see `overlapping`; what these children save would be overwritten.
        enclosed: True when the output goes to other modules only.
        relu: True when the child computes a ReLU too, see WithReLU. pool: None, or the name of the
        child that pools behind that, which it computes as well.
        """
        module, relu = self.named[name], relu or pool is not None
        try:
            module.enclosed = enclosed
            if pool is not None:
                y = module.forward_pool_relu(x, self.named[pool])
            else:
                y = module.forward_relu(x) if relu else module.forward(x)
        except Exception as error:
            self.at(error, name)
            raise
        finally:
            module.enclosed = False
        if keep is not None:
            x = None if module.from_saved and module.training else x
            state = module.take_saved() if name in shared else None
            keep[name] = x, state, y if relu else None, pool
        return y

    def run_back(self, name, kept, dy, want_dx):
        """The gradient of one child's input, after `run`; None where nobody wants it."""
        module = self.named[name]
        x, state, y, pool = kept.pop(name) if self.backward_once else kept[name]
        if not want_dx and not module.learns():
            return None
        module.want_dx, module.backward_once = want_dx, self.backward_once
        if state is not None:
            module.put_saved(state)
        try:
            if pool is not None:
                dx = module.backward_pool_relu(x, self.named[pool], y, dy)
            else:
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
    own = vars(module) if type(module) in kinds else ("forward",)
    return "forward" not in own and "backward" not in own


def overlapping(named):
    """The names of the modules that have a module, themselves or inside, in common with others.

    >>> from flambeau import nn
    >>> norm = nn.BatchNorm1d(3)
    >>> overlapping({"a": norm, "b": nn.ReLU(), "c": nn.Sequential(norm)}) == {"a", "c"}
    True
    """
    holders, found = {}, set()
    for name, module in named.items():
        _hold(module, name, holders, found)
    return found


def _hold(module, name, holders, found):
    other = holders.get(id(module))
    if other == name:
        return
    if other is not None:
        found |= {other, name}
    holders[id(module)] = name
    for _, child in module.children():
        _hold(child, name, holders, found)


def _repeats(modules):
    """For each module the index at which it first occurs."""
    return [next(i for i, m in enumerate(modules) if m is module) for module in modules]
