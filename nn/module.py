"""What every module has: parameters and their gradients, modes, devices, names, a state."""

from typing import NamedTuple

import numpy as np

from flambeau import kernels
from flambeau.nn import flat, saving, summary, tied


class Arguments(NamedTuple):
    """What a module was built with: (args, kwargs)."""

    args: tuple
    kwargs: dict


# types of attributes that are and hold no child
PLAIN = frozenset({np.ndarray, int, float, bool, str, type(None), Arguments})
classes = {}  # every subclass by its qualified name: what nn.load may build


class Gradient:
    """The gradient of a module's parameter where the module has none yet: see Module.

    A descriptor of the parameter alone: a `__getattr__` of the module would make every attribute
    slow to find.
    """

    def __init__(self, name):
        self.name = name

    def __get__(self, module, owner=None):
        return self if module is None else made_gradient(module, self.name)


class Module:
    """A function with a backward pass: `forward(x) -> y`, `backward(x, dy) -> dx`.

    A subclass names its learned arrays in `params` and other arrays that belong to its state in
    `buffers`; it defines `forward` and `backward` and nothing else. `grad_weight` is the gradient
    of `weight`: it is made when first asked for, is None when the weight is None or frozen, and
    `backward` adds to it. Modules held as attributes (or in lists of them) are its children.
    Those that hold one array, or views of one memory as `weight` and `weight.T`, share a parameter.

    >>> class Double(Module):
    ...     def forward(self, x):
    ...         return x * 2
    ...     def backward(self, x, dy):
    ...         return dy * 2
    >>> Double()(np.ones(2)).tolist()
    [2.0, 2.0]

    Source: Torch7's nn.Module.
    """

    params = ()
    buffers = ()
    training = True  # see train()
    frozen = False  # see freeze()
    want_dx = True  # False: backward need not compute the gradient of the input
    from_output = False  # True: backward(y, dy) is as good as backward(x, dy)
    from_saved = False  # True: after a forward in training backward reads no x
    from_shape = False  # True: backward reads only the shape of x, which is that of y
    enclosed = False  # True while a container runs it whose other modules get y: nobody changes y
    backward_once = False  # True: backward comes once after a forward and gives its memory back
    saved = None  # what backward needs and cannot recompute from x and the parameters

    def __new__(cls, *args, **kwargs):
        self = object.__new__(cls)
        self.arguments = Arguments(args, kwargs)  # for repr and save
        return self

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        classes[f"{cls.__module__}.{cls.__qualname__}"] = cls
        for name in cls.params:
            if not hasattr(cls, "grad_" + name):
                setattr(cls, "grad_" + name, Gradient(name))

    def __getstate__(self):
        return tied.pickled(self)

    def __setstate__(self, state):
        vars(self).update(tied.unpickled(state))

    def __repr__(self):
        args, kwargs = self.arguments
        given = [_short(a) for a in args] + [f"{k}={_short(v)}" for k, v in kwargs.items()]
        return f"{type(self).__name__}({', '.join(given)})"

    # ---- the two methods of a layer, and the call

    def forward(self, x):
        """y, the module applied to x (an array, or a tuple of arrays)."""
        raise TypeError(f"{type(self).__name__} does not define forward(x)")

    def backward(self, x, dy):
        """dx, the gradient of the input; adds to the gradients of the parameters.

        Comes after `forward` with the same x. None when `want_dx` is False.
        """
        raise TypeError(f"{type(self).__name__} does not define backward(x, dy)")

    def __call__(self, *inputs, **options):
        """forward on arrays (several become a tuple); on graph nodes it wires a new node."""
        if len(inputs) == 1 and type(inputs[0]) is np.ndarray:  # the rest need not be asked
            return self.forward(inputs[0], **options)
        if any(hasattr(x, "wire") for x in inputs):
            return next(x for x in inputs if hasattr(x, "wire")).wire(self, inputs, **options)
        if not inputs:
            raise TypeError(f"{self!r}: called without an input")
        x = inputs if len(inputs) > 1 else inputs[0]
        return self.forward(kernels.asarray(x), **options)

    def need(self, condition, must, **got):
        """Raise ValueError unless the condition holds: who, what must hold, what came."""
        if not condition:
            came = ", ".join(f"{name} {_came(value)}" for name, value in got.items())
            raise ValueError(f"{who(self)}: {must}" + (f" — got {came}" if came else ""))

    def need_floats(self, x):
        """Raise ValueError unless x holds floats, such as float32, and no integers."""
        floats = getattr(getattr(x, "dtype", None), "kind", None) == "f"
        self.need(floats, 'x must hold floats; see x.astype("float32")', x=x)

    def need_gradient(self, dy, shape):
        """Raise ValueError unless dy is an array of the output's shape."""
        if tuple(getattr(dy, "shape", ("no",))) != tuple(shape):
            self.need(False, f"dy must have the shape of y, {tuple(shape)}", dy=dy)

    # ---- children and parameters

    def children(self):
        """The modules directly inside, as a list of (name, module)."""
        found, own = [], vars(self)
        if PLAIN.issuperset(map(type, own.values())):  # soon known: nets are often walked
            return found
        for name, value in own.items():
            if name == "arguments":
                continue
            if isinstance(value, Module):
                found.append((name, value))
            elif isinstance(value, (list, tuple)):
                found += [(f"{name}.{i}", m) for i, m in enumerate(value) if isinstance(m, Module)]
        return found

    def named_modules(self, prefix=""):
        """Every module once, itself first, as (dotted name, module); its own name is ""."""
        found = {}
        _walk(self, prefix, found)
        return list(found.values())

    def modules(self):
        """Every module once, itself first."""
        found = {}
        _gather(self, found)
        return list(found.values())

    def slots(self):
        """Where the learned arrays are: (dotted name, module, attribute), each memory once.

        Two that are views of the same elements, such as `weight` and `weight.T`, are one, under the
        name of the first, or of the first that is frozen. Their gradients are made one memory as
        well: what came to them apart is summed.
        """
        return tied.slots(self)

    def named_parameters(self):
        """The learned arrays as (dotted name, array), each once."""
        return [(path, getattr(module, name)) for path, module, name in self.slots()]

    def named_buffers(self):
        """The other arrays of the state, such as running means, as (dotted name, array)."""
        return [
            (_dot(path, name), getattr(module, name))
            for path, module in self.named_modules()
            for name in module.buffers
            if getattr(module, name) is not None
        ]

    def parameters(self):
        """The learned arrays, each once."""
        return [array for _, array in self.named_parameters()]

    def gradients(self):
        """The gradients, in the order of `parameters()`; None where frozen."""
        return [getattr(module, "grad_" + name) for _, module, name in tied.slots(self, True)]

    def zero_grad(self):
        """Set all gradients to zero."""
        for module in self.modules():
            for name in module.params:
                grad = module.__dict__.get("grad_" + name)
                if grad is not None:
                    kernels.of(grad).fill(grad, 0)

    def learns(self):
        """True when some parameter here or below is not frozen."""
        if not self.frozen:
            for name in self.params:
                if getattr(self, name) is not None:
                    return True
        for _, child in self.children():
            if child.learns():
                return True
        return False

    # ---- modes

    def train(self, mode=True):
        """Training or evaluation (False), here and below; frozen modules stay in evaluation."""
        for module in self.modules():
            module.training = bool(mode) and not module.frozen
        return self

    def eval(self):
        """Evaluation: dropout passes all, batch normalisation uses its running statistics."""
        return self.train(False)

    def freeze(self, until=None):
        """No gradients for these parameters any more, and evaluation for good.

        until: the name of a child: freezes the children up to and including that one.
        """
        if until is None:
            for module in self.modules():
                module.frozen, module.training = True, False
                for name in module.params:
                    module.__dict__.pop("grad_" + name, None)
            return self
        names = [name for name, _ in self.children()]
        if until not in names:
            raise ValueError(f"freeze(until={until!r}): must be one of {', '.join(names)}")
        for _, child in self.children()[: names.index(until) + 1]:
            child.freeze()
        return self

    def unfreeze(self):
        """Undo freeze(), here and below; the mode becomes training."""
        for module in self.modules():
            module.frozen, module.training = False, True
        return self

    # ---- arrays

    def to(self, where):
        """Move parameters, gradients and buffers to "cpu", "host", "cuda" or "cuda:<number>"."""
        return self._convert(lambda a: kernels.to(a, where))

    def astype(self, dtype):
        """Convert parameters, gradients and floating buffers to float32 or float64."""
        dtype = np.dtype(dtype)
        return self._convert(lambda a: a if a.dtype == dtype else kernels.of(a).cast(a, dtype))

    def _convert(self, change):
        """Replace every array of the state by change(array); shared arrays stay shared."""
        held = []
        for module in self.modules():
            module.saved = None
            for name in (*module.params, *("grad_" + p for p in module.params), *module.buffers):
                array = module.__dict__.get(name)
                if array is not None and not isinstance(array, int):
                    held.append((module, name, array))
        new = tied.changed([array for _, _, array in held], change)
        for module, name, array in held:
            setattr(module, name, new[id(array)])
        return self

    def share(self, other, *names):
        """Use the arrays called `names` (and their gradients) of another module of the same shape.

        Goes through the children side by side. Without names: all parameters. Source: Torch7.
        """
        tied.holders(other, True)
        for name in names or self.params:
            if name in self.params and name in other.params:
                setattr(self, name, getattr(other, name))
                setattr(self, "grad_" + name, getattr(other, "grad_" + name))
        for (_, mine), (_, theirs) in zip(self.children(), other.children(), strict=True):
            mine.share(theirs, *names)
        return self

    def flatten_parameters(self):
        """Put all parameters into one flat array and their gradients into another: (flat, grads).

        Parameters become views of it, so that writing to the flat array changes them; sharing
        survives; those that overlap in part are refused. Frozen modules are left out. Source:
        Torch7's getParameters.
        """
        return flat.flatten(self)

    def clone(self, *names):
        """A copy with arrays of its own; those called `names` are shared with the original."""
        twin = saving.clone(self)
        return twin.share(self, *names) if names else twin

    def clear_state(self):
        """Forget what forward kept for backward."""
        for module in self.modules():
            module.saved = None
        return self

    def take_saved(self):
        """Take away what forward kept for backward, here and below; give it back to put_saved."""
        modules = self.modules()
        state = [module.saved for module in modules]
        for module in modules:
            module.saved = None
        return state

    def put_saved(self, state):
        """Put back what take_saved took: so one cell serves every time step without clones."""
        for module, saved in zip(self.modules(), state, strict=True):
            module.saved = saved

    # ---- the state by name, files

    def state_dict(self):
        """Parameters and buffers as NumPy arrays by dotted name: PyTorch's names and shapes."""
        return saving.state_dict(self)

    def load_state_dict(self, state, strict=True):
        """Copy arrays by dotted name into the parameters and buffers.

        strict: raise when a name is missing or not known. Shapes must agree in any case.
        """
        saving.load_state_dict(self, state, strict)
        return self

    def config(self):
        """What rebuilds this module without its weights, as JSON: class and arguments."""
        args, kwargs = self.arguments
        return saving.header(self) | {"args": saving.encode(args), "kwargs": saving.encode(kwargs)}

    @classmethod
    def from_config(cls, config):
        """The module that `config` describes."""
        self = cls(*saving.decode(config["args"]), **saving.decode(config["kwargs"]))
        self.training, self.frozen = config["training"], config["frozen"]
        return self

    def save(self, path, about=None):
        """Write architecture and weights to one HDF5 file; `nn.load(path)` rebuilds it."""
        saving.save(self, path, about)

    def summary(self, *inputs):
        """A table of the modules with their output shapes and numbers of parameters."""
        return summary.table(self, *inputs)

    # ---- the tree

    def apply(self, function):
        """Call function(module) for every module, itself first."""
        for module in self.modules():
            function(module)
        return self

    def replace(self, function):
        """Rebuild the tree: each module becomes function(module), itself first. Source: Torch7."""
        new = function(self)
        for name, child in new.children():
            replacement = child.replace(function)
            if replacement is not child:
                new.set_child(name, replacement)
        return new

    def set_child(self, name, module):
        """Put a module in the place of the child of that name."""
        stem, _, index = name.partition(".")
        if index:
            held = list(getattr(self, stem))
            held[int(index)] = module
            module = type(getattr(self, stem))(held)
        setattr(self, stem, module)

    def find(self, what):
        """The modules of a class, or the one module of a dotted name.

        >>> from flambeau import nn
        >>> nn.Sequential(nn.Linear(2, 3), nn.ReLU()).find(nn.ReLU)
        [ReLU()]
        """
        if isinstance(what, str):
            named = dict(self.named_modules())
            if what not in named:
                raise KeyError(
                    f"no module {what!r}; the names are {', '.join(filter(None, named))}"
                )
            return named[what]
        return [module for module in self.modules() if isinstance(module, what)]


def made_gradient(module, name):
    """The gradient of a parameter, made for the module to keep; None when there is to be none."""
    array = module.__dict__.get(name)
    if array is None or module.frozen:
        return None
    grad = kernels.of(array).zeros(array, array.shape, array.dtype)
    module.__dict__["grad_" + name] = grad
    return grad


def who(module):
    """A module's repr for error messages: of a container the first line."""
    first, *rest = repr(module).split("\n")
    return first + ", …)" * bool(rest)


def _gather(module, found):
    if id(module) not in found:
        found[id(module)] = module
        for _, child in module.children():
            _gather(child, found)


def _walk(module, path, found):
    if id(module) not in found:
        found[id(module)] = path, module
        for name, child in module.children():
            _walk(child, _dot(path, name), found)


def _dot(path, name):
    return f"{path}.{name}" if path else name


def _came(value):
    """A value for an error message: arrays by their shape."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{tuple(value.shape)}" + (f" {value.dtype}" if value.dtype.kind != "f" else "")
    if isinstance(value, tuple) and value and hasattr(value[0], "shape"):
        return "(" + ", ".join(_came(v) for v in value) + ")"
    return f"{value!r:.80}"


def _short(value):
    return (
        f"array{value.shape}" if isinstance(value, np.ndarray) and value.size > 8 else repr(value)
    )
