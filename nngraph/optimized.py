"""The graph that `optimize` makes: it records the kernels that it runs and runs them again."""

import collections

import numpy as np

from flambeau import kernels, nn
from flambeau.nn.container import Container
from flambeau.nngraph.graph import Graph

RECORDED = {  # they call the same kernels whatever the values are, and keep nothing
    nn.Add,
    nn.AdaptiveAvgPool2d,
    nn.AvgPool2d,
    nn.BatchNorm2d,
    nn.ChainedConv2d,
    nn.Flatten,
    nn.FusedConv2d,
    nn.Identity,
    nn.JoinedConv2d,
    nn.JoinTable,
    nn.Linear,
    nn.LocalResponseNorm,
    nn.LogSoftmax,
    nn.MaxPool2d,
    nn.ReLU,
    nn.ReLU6,
    nn.Scale,
    nn.Sigmoid,
    nn.Softmax,
    nn.Tanh,
}
MOST = 4  # recordings that are kept, those used last


class OptimizedGraph(Graph):
    """A Graph for inference that runs the same kernels again for inputs of the same form.

    On a CPU its second pass for inputs of one dtype, shape and memory order is recorded, and those
    after it run the recorded kernels one after another, with the same memory, without Python in
    between. The results are the same; nothing else can be told from outside. A pass with taps, or
    after anything in a module was changed or put in its place, is as in any Graph, and so is one
    while another thread runs the recording. `records` = False: as in any Graph always.

    Recordings hold the memory of a pass; `clear_state` gives it back.
    """

    records = True

    def forward(self, x, taps=()):
        xs = x if isinstance(x, tuple) else (x,)
        package = self._package(xs) if self.records and not taps else None
        if package is None:
            return super().forward(x, taps)
        recordings = vars(self).setdefault("_recordings", Recordings())
        form = package.form(xs)
        if not recordings.hold(self._held()):
            y = super().forward(x)
            recordings.start(self._held(), form)  # what a pass sets is there by now
            return y
        recording = recordings.of(form, package, self._pass, xs)
        ys = None if recording is None else recording.run(xs)
        if ys is None:
            return super().forward(x)
        return tuple(ys) if len(ys) > 1 else ys[0]

    def _package(self, xs):
        """What records passes over these inputs, or None."""
        if self.training or not all([isinstance(a, np.ndarray) for a in xs]):
            return None
        return getattr(kernels.of(xs), "recording", None)

    def _held(self):
        """Everything that a pass depends on: the modules and what they hold."""
        held = [self.steps, self.outs]
        for module in self.named.values():
            held += (module, *vars(module).values())
            if isinstance(module, Container):
                for child in module.named.values():
                    held += (child, *vars(child).values())
        return held

    def _pass(self, *xs):
        y = super().forward(xs if len(xs) > 1 else xs[0])
        return y if len(self.outs) > 1 else (y,)

    def clear_state(self):
        vars(self).pop("_recordings", None)
        return super().clear_state()


class Recordings:
    """The recordings of a graph, {form of the inputs: Recording or None where there can be none}.

    They hold as long as the graph has the same modules and these hold the same.
    """

    def __init__(self):
        self.start([])

    def start(self, held, *seen):
        """Forget the recordings; from now on the graph holds this and has seen these forms."""
        self.held, self.ids, self.seen = held, list(map(id, held)), set(seen)
        self.arrays = [a for a in held if isinstance(a, np.ndarray)]
        self.fit = fit(held)
        self.made = collections.OrderedDict()

    def hold(self, held):
        """True when the graph still holds the same and nobody can have written to it."""
        same = self.ids == list(map(id, held))
        return same and not any([a.flags.writeable for a in self.arrays])

    def of(self, form, package, function, xs):
        """The Recording for a form of inputs, made when it is seen again; or None."""
        if form in self.made:
            self.made.move_to_end(form)
        elif self.fit and form in self.seen:
            try:
                self.made[form] = package.Recording(function, xs)
            except package.Refused:
                self.made[form] = None
            while len(self.made) > MOST:  # those used last are kept
                self.made.popitem(last=False)
        self.seen.add(form)
        return self.made.get(form)

    def clone_with(self, clone):
        """What a clone of the graph has: nothing yet, its arrays are others."""
        return Recordings()


def fit(held):
    """True when all modules are such as can be recorded."""
    modules = [m for m in held if isinstance(m, nn.Module)]
    return all(type(m) in RECORDED and "forward" not in vars(m) for m in modules)
