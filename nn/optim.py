"""Optimisers: change the parameters of a network by their gradients. Learning-rate schedules."""

import math
from operator import is_

import numpy as np

from flambeau import kernels
from flambeau.nn import tied

__all__ = ["SGD", "Adam", "AdamW", "CosineLR", "Optimizer", "Schedule", "StepLR"]


class Parts(list):
    """The (w, dw, kept) of a step, which nobody changes, and those that one call can change."""

    names, groups = None, ()

    def together(self, names):
        """(kernels, step, ws, dws, arrays) for each group; arrays: a list for each of the names."""
        if names != self.names or not all(map(_in_step, self.groups)):
            self.names, self.groups = names, _grouped(self, names)
        return [(k, kept[0]["step"], *arrays) for k, kept, *arrays in self.groups]


def _in_step(group):
    """True while all of a group have taken as many steps."""
    _, kept, *_ = group
    step = kept[0]["step"]
    for one in kept:
        if one["step"] != step:
            return False
    return True


def _grouped(parts, names):
    """Parts of one device, dtype and number of steps: [(kernels, kept, ws, dws, arrays), …]"""
    found, groups = {}, []
    for part in parts:
        w, dw, kept = part
        key = kernels.device(w), w.dtype, dw.dtype, kept["step"]
        found.setdefault(key, []).append(part)
    for group in found.values():
        ws, dws, kept = zip(*group, strict=True)
        arrays = [kernels.Arrays([one[name] for one in kept]) for name in names]
        alike = kernels.Arrays(ws), kernels.Arrays(dws), arrays
        groups.append((kernels.of(ws[0]), kept, *alike))
    return groups


class Optimizer:
    """Abstract: `step()` changes every parameter of `net` that has a gradient and is not frozen.

    A subclass names in `options` its numbers beside lr, in `arrays` what it keeps for each
    parameter, and defines `update` for one parameter or `update_all` for all at once. What is kept
    follows a parameter that is moved, converted or flattened; it starts anew for one of another
    shape or of another module.

    `lr` and the options may be changed between steps.
    """

    options = ()
    arrays = ()

    def __init__(self, net, lr, **options):
        self.net, self.lr = net, lr
        self.state = {}  # dotted name of the parameter -> {"step": number of steps, arrays}
        self.owners = {}  # dotted name -> the module that had the parameter
        self.slots, self.found, self.parts, self.known = [], [], Parts(), []  # of the last step
        for name, value in options.items():
            setattr(self, name, value)
        for name in ("lr", *(n for n in options if n in ("momentum", "weight_decay", "eps"))):
            value = getattr(self, name)
            if not value >= 0:
                raise ValueError(f"{self!r}: {name} must not be negative — got {value!r}")

    def __repr__(self):
        given = [f"{name}={getattr(self, name)!r}" for name in ("lr", *self.options)]
        return f"{type(self).__name__}({', '.join(given)})"

    def update(self, w, dw, kept):
        """Change w in place by its gradient; kept["step"] counts from 1."""
        raise TypeError(f"{type(self).__name__} does not define update(w, dw, kept)")

    def update_all(self, parts):
        """Change every w of the (w, dw, kept) in place."""
        for w, dw, kept in parts:
            self.update(w, dw, kept)

    def step(self, closure=None):
        """One step. closure: called first, to compute the gradients; its loss is returned."""
        loss = closure() if closure else None
        slots = tied.slots(self.net, known=self.known)
        if slots != self.slots or not _same(self._found(slots), self.found):
            self.parts = self._recalled(slots)
            self.slots, self.found = slots, self._found(slots)
        for _, _, kept in self.parts:
            kept["step"] += 1
        self.update_all(self.parts)
        return loss

    def _found(self, slots):
        """All objects that decide what the parts of a step are, beside the slots."""
        arrays, found = self.arrays, [self.state]
        for _, module, name in slots:
            found += getattr(module, name), module.__dict__.get("grad_" + name), module.frozen
        for kept in self.state.values():
            found.append(kept)
            for name in arrays:
                found.append(kept.get(name))
        return found

    def _recalled(self, slots):
        """The parts of a step: each (w, dw, kept) where there is a gradient and nothing frozen."""
        tied.need_apart(slots)
        parts, arrays = Parts(), self.arrays
        for path, module, name in slots:
            grad = module.__dict__.get("grad_" + name)  # None: no backward came here
            if grad is not None and not module.frozen:
                w = getattr(module, name)
                parts.append((w, grad, self._recall(path, module, w, arrays)))
        return parts

    def zero_grad(self):
        """Set all gradients of the network to zero."""
        self.net.zero_grad()

    def _recall(self, path, module, w, arrays):
        """What is kept for the parameter w, with these arrays: on its device, in its dtype."""
        kept, shape = self.state.get(path), w.shape
        fits = kept is not None and self.owners.get(path, module) is module
        if not fits or not all([n in kept and kept[n].shape == shape for n in arrays]):
            kept = {"step": 0} | {n: kernels.of(w).zeros(w, shape, w.dtype) for n in arrays}
            self.state[path] = kept
        self.owners[path] = module
        for name in arrays:
            array = kept[name]
            if array.dtype != w.dtype:
                array = kernels.of(array).cast(array, w.dtype)
            if not type(array) is type(w) is np.ndarray:  # these are where they should be
                array = kernels.to(array, kernels.device(w))
            kept[name] = array
        return kept

    def state_dict(self):
        """{"options": numbers, "state": {parameter: {"step": n, arrays as ndarrays}}}, copies."""
        return {
            "options": {name: getattr(self, name) for name in ("lr", *self.options)},
            "state": {
                path: {n: v if n == "step" else _copied(v) for n, v in kept.items()}
                for path, kept in self.state.items()
            },
        }

    def load_state_dict(self, state):
        """Take the options and the kept arrays that `state_dict` gave.

        Raises ValueError, and changes nothing, unless all of it fits this optimiser and its net.
        """
        options, kept = state["options"], state["state"]
        parameters = dict(self.net.named_parameters())
        problems = [f"{n} is not an option" for n in set(options) - {"lr", *self.options}]
        for path, arrays in kept.items():
            if path not in parameters:
                problems.append(f"{path} is not a parameter")
                continue
            shape = tuple(parameters[path].shape)
            for name in set(arrays) - {"step"}:
                if np.shape(arrays[name]) != shape:
                    problems.append(
                        f"{name} of {path} must be {shape} — got {np.shape(arrays[name])}"
                    )
        if problems:
            raise ValueError(f"load_state_dict({self!r}): " + "; ".join(sorted(problems)))
        for name, value in options.items():
            setattr(self, name, value)
        self.owners = {}
        self.state = {
            path: {n: int(v) if n == "step" else np.array(v) for n, v in arrays.items()}
            for path, arrays in kept.items()
        }


def _same(some, others):
    """True for two lists of the same objects."""
    return len(some) == len(others) and all(map(is_, some, others))


def _copied(x):
    """A copy of an array as an ndarray."""
    return np.array(kernels.of(x).numpy(x))


class SGD(Optimizer):
    """v = momentum · v + (1 − dampening) dw, w −= lr · v

    weight_decay · w is added to dw first; v starts as dw. nesterov: w −= lr (dw + momentum · v).
    Source: Sutskever et al. 2013, in PyTorch's form; Torch7's optim.sgd.

    >>> from flambeau import nn
    >>> SGD(nn.Linear(3, 2), lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, dampening=0, weight_decay=0, nesterov=False)
    """

    options = "momentum", "dampening", "weight_decay", "nesterov"

    def __init__(self, net, lr, momentum=0, dampening=0, weight_decay=0, nesterov=False):
        given = dict(momentum=momentum, dampening=dampening)
        super().__init__(net, lr, **given, weight_decay=weight_decay, nesterov=nesterov)
        if nesterov and (momentum == 0 or dampening != 0):
            raise ValueError(
                f"{self!r}: nesterov needs a momentum and no dampening "
                f"— got momentum {momentum}, dampening {dampening}"
            )

    @property
    def arrays(self):
        return ("momentum_buffer",) if self.momentum else ()

    def update_all(self, parts):
        numbers = self.lr, self.momentum, self.dampening, self.weight_decay
        numbers = (*(float(number) for number in numbers), bool(self.nesterov))
        for k, step, ws, dws, vs in parts.together(self.arrays):
            k.sgd_step(ws, dws, vs[0] if vs else None, *numbers, step == 1)


class Adam(Optimizer):
    """m, v = running means of dw, dw²; w −= lr · m̂ / (√v̂ + eps)

    m̂, v̂: m, v over 1 − betaᵗ. weight_decay · w is added to dw first.
    Source: Kingma and Ba 2015; Torch7's optim.adam.

    >>> from flambeau import nn
    >>> Adam(nn.Linear(3, 2))
    Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0)
    """

    options = "betas", "eps", "weight_decay"
    arrays = "exp_avg", "exp_avg_sq"

    def __init__(self, net, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0):
        super().__init__(net, lr, betas=betas, eps=eps, weight_decay=weight_decay)
        _check_betas(self)

    def update_all(self, parts):
        _adam(self, parts, False)


class AdamW(Optimizer):
    """w −= lr · weight_decay · w, then as Adam: the decay does not enter the running means

    Source: Loshchilov and Hutter 2019.

    >>> from flambeau import nn
    >>> AdamW(nn.Linear(3, 2), lr=0.01)
    AdamW(lr=0.01, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)
    """

    options = "betas", "eps", "weight_decay"
    arrays = "exp_avg", "exp_avg_sq"

    def __init__(self, net, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(net, lr, betas=betas, eps=eps, weight_decay=weight_decay)
        _check_betas(self)

    def update_all(self, parts):
        _adam(self, parts, True)


def _check_betas(optimizer):
    betas = optimizer.betas
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"{optimizer!r}: betas must be two numbers from 0 to below 1")


def _adam(optimizer, parts, decoupled):
    numbers = optimizer.lr, *optimizer.betas, optimizer.eps, optimizer.weight_decay
    numbers = [float(number) for number in numbers]
    for k, step, ws, dws, (ms, vs) in parts.together(optimizer.arrays):
        k.adam_step(ws, dws, ms, vs, step, *numbers, decoupled)


class Schedule:
    """Abstract: sets an optimiser's lr; `step()` comes after each epoch.

    A subclass defines `at(epoch)`, from the lr that the optimiser had at first.
    """

    def __init__(self, optimizer):
        self.optimizer, self.first, self.epoch = optimizer, optimizer.lr, 0

    def at(self, epoch):
        """The lr of an epoch, counted from 0."""
        raise TypeError(f"{type(self).__name__} does not define at(epoch)")

    def step(self):
        """Go on to the next epoch."""
        self.epoch += 1
        self.optimizer.lr = self.at(self.epoch)

    def state_dict(self):
        """What continues the schedule: {"epoch", "first"}."""
        return {"epoch": self.epoch, "first": self.first}

    def load_state_dict(self, state):
        """Continue where `state_dict` was taken; sets the optimiser's lr."""
        self.epoch, self.first = state["epoch"], state["first"]
        self.optimizer.lr = self.at(self.epoch)


class StepLR(Schedule):
    """lr = first lr · gamma^⌊epoch / step_size⌋

    >>> from flambeau import nn
    >>> StepLR(SGD(nn.Linear(3, 2), lr=1.0), step_size=30).at(60)
    0.010000000000000002
    """

    def __init__(self, optimizer, step_size, gamma=0.1):
        super().__init__(optimizer)
        if step_size < 1:
            raise ValueError(f"StepLR: step_size must be at least 1 — got {step_size!r}")
        self.step_size, self.gamma = step_size, gamma

    def at(self, epoch):
        return self.first * self.gamma ** (epoch // self.step_size)


class CosineLR(Schedule):
    """lr = lr_min + (first lr − lr_min) (1 + cos(π epoch / t_max)) / 2

    Source: Loshchilov and Hutter 2017, without restarts; PyTorch's CosineAnnealingLR.

    >>> from flambeau import nn
    >>> CosineLR(SGD(nn.Linear(3, 2), lr=1.0), t_max=10).at(5)
    0.5
    """

    def __init__(self, optimizer, t_max, lr_min=0):
        super().__init__(optimizer)
        if t_max < 1:
            raise ValueError(f"CosineLR: t_max must be at least 1 — got {t_max!r}")
        self.t_max, self.lr_min = t_max, lr_min

    def at(self, epoch):
        part = (1 + math.cos(math.pi * epoch / self.t_max)) / 2
        return self.lr_min + (self.first - self.lr_min) * part
