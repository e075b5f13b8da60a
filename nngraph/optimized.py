"""The graph that `optimize` makes: it records the kernels that it runs and runs them again."""

from itertools import chain
from operator import attrgetter

from flambeau import nn
from flambeau.nn.container import Container
from flambeau.nngraph.graph import Graph
from flambeau.nngraph.recordings import Recordings, recorder_of, unfit

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
    nn.PooledConv2d,
    nn.ReLU,
    nn.ReLU6,
    nn.Scale,
    nn.Sigmoid,
    nn.Softmax,
    nn.Tanh,
}
WRITEABLE = attrgetter("flags.writeable")


class OptimizedGraph(Graph):
    """A Graph for inference that runs the same kernels again for inputs of the same form.

    On a CPU its second pass for inputs of one dtype, shape and memory order is recorded, and those
    after it run the recorded kernels one after another, with the same memory, without Python in
    between. The results are the same; nothing else can be told from outside. A pass with taps, or
    after anything in a module was changed or put in its place, is as in any Graph, and so is one
    while another thread runs the recording. `records` = False: as in any Graph always.

    Recordings hold the memory of a pass; `clear_state` gives it back.
    From the second pass on, large weights of linear layers are also kept as they are read fastest,
    in 28 bits each where their exponents allow it, for as long as the graph lives.
    """

    records = True

    def forward(self, x, taps=()):
        xs = x if isinstance(x, tuple) else (x,)
        package = recorder_of(xs) if self.records and not (taps or self.training) else None
        if package is None:
            return super().forward(x, taps)
        recordings = vars(self).setdefault("_recordings", Recordings())
        form = package.form(xs)
        holds = recordings.hold(self._held(*recordings.known))
        if not holds or any(map(WRITEABLE, recordings.arrays)):
            y = super().forward(x)
            known = self._known()  # what a pass sets is there by now
            recordings.start(self._held(*known), form)
            recordings.known = known
            return y
        recording = recordings.of(form, lambda: self._recorded(package, xs), package.Refused)
        ys = None if recording is None else recording.run(xs)
        if ys is None:
            return super().forward(x)
        return tuple(ys) if len(ys) > 1 else ys[0]

    def _recorded(self, package, xs):
        """A recording of a pass over these inputs."""
        other = unfit(self._known()[0], RECORDED)
        if other is not None:
            raise package.Refused(f"{other!r} is not known to run the same kernels every time")
        return package.Recording(self._pass, xs)

    def _known(self):
        """The modules, and views of everything in them, which show what is there now."""
        modules = list(self.named.values())
        containers = [m for m in modules if isinstance(m, Container)]
        modules += [child for m in containers for child in m.named.values()]
        views = [self.named.values(), *(m.named.values() for m in containers)]
        return modules, views + [vars(m).values() for m in modules]

    def _held(self, modules=(), views=()):
        """Everything that a pass depends on: the modules and what they hold."""
        return chain((self.steps, self.outs, self.named), map(vars, modules), *views)

    def _pass(self, *xs):
        y = super().forward(xs if len(xs) > 1 else xs[0])
        return y if len(self.outs) > 1 else (y,)

    def clear_state(self):
        vars(self).pop("_recordings", None)
        return super().clear_state()
