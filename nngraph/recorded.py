"""Training from recordings: the kernels of a network's steps run without Python in between."""

from flambeau import kernels, nn
from flambeau.nn import random
from flambeau.nn.normalization import NORMS
from flambeau.nngraph.graph import Graph
from flambeau.nngraph.recordings import Recordings, recorder_of, unfit

KINDS = {  # they call the same kernels whatever the values are
    Graph,
    nn.AdaptiveAvgPool2d,
    nn.Add,
    nn.AvgPool2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Concat,
    nn.ConcatTable,
    nn.Conv2d,
    nn.Dropout,
    nn.Flatten,
    nn.Identity,
    nn.JoinTable,
    nn.LeakyReLU,
    nn.Linear,
    nn.LocalResponseNorm,
    nn.LogSoftmax,
    nn.MaxPool2d,
    nn.ParallelTable,
    nn.ReLU,
    nn.ReLU6,
    nn.Scale,
    nn.Sequential,
    nn.Sigmoid,
    nn.Softmax,
    nn.Tanh,
}
PASSING = {  # what passes set in modules, and a network need not hold as it was
    "backward_once",
    "enclosed",
    "num_batches_tracked",
    "saved",
    "want_dx",
}


class Recorded(nn.Module):
    """A network whose steps in training run from recordings: the same bits, in less time.

    x -> network(x)

    network: a module that is made of those in `KINDS`; its parameters, gradients and running
    statistics stay its own. The optimiser takes it, and it is what one saves. `want_dx` and
    `backward_once` begin as the network's, and are this module's own from then on. With
    `accumulates` set to False a backward pass begins with gradients of zero: what zero_grad would
    do before it, but each gradient is cleared when its turn has come, and is then in the caches.

    On a CPU, steps with inputs of one dtype, shape and memory order run the same kernels. They are
    written down once, in a forward pass that takes as long as some steps, and from then on run one
    after another in memory of their own, without the Python between them. Where that cannot be,
    after a change of the network for instance, a pass is as the network's own; `refused` says why
    the last recording could not be made. There is one recorded backward to each forward; after
    another forward, or a second time, it computes the network's values anew. A dy that lies in
    memory in another order than y is copied into that of y, in which sums may round otherwise.
    Inner modules keep nothing of a recorded pass. To write one down takes memory for copies of the
    gradients, unless they were just cleared. `clear_state` gives the memory of the recordings back.

    Raises ValueError when a module is of no such kind: it might compute otherwise next time.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> fast, x = Recorded(net), np.ones((5, 4), "f4")
    >>> for step in range(4):
    ...     net.zero_grad()
    ...     y = fast(x)
    ...     dx = fast.backward(x, y - 1)
    >>> dx.shape
    (5, 4)
    """

    def __init__(self, network):
        reason = misfit(network)
        self.need(reason is None, reason)
        self.network = network
        self.want_dx, self.backward_once = network.want_dx, network.backward_once
        self.accumulates = True

    @property
    def refused(self):
        """Why the last recording could not be made, or None."""
        return self._recordings().refused

    def forward(self, x):
        self.saved = None
        xs = x if isinstance(x, tuple) else (x,)
        passes = self._passes(xs) if self.training else None
        if passes is None:
            return self.network.forward(x)
        drawn = random.reserve(4 * passes.blocks)
        ys = passes.forward(xs, *drawn)
        for norm, count in passes.counts:
            norm.num_batches_tracked += count
        self.saved = passes, passes.runs, (self.want_dx, self.accumulates), drawn
        return _table(ys)

    def backward(self, x, dy):
        if self.saved is not None:
            passes, run, wanted, drawn = self.saved
            self.saved = passes, None, wanted, drawn
            dys = dy if isinstance(dy, tuple) else (dy,)
            self._need_gradients(dys, passes.shapes)
            same = self._recordings().hold(self._held())
            now = passes.runs, (self.want_dx, self.accumulates)
            if same and (run, wanted) == now:
                dxs = passes.backward(dys)
                return _table(dxs) if dxs else None
            self._pass_again(x, drawn)
        return self._own_backward(x, dy, self.backward_once)

    def _own_backward(self, x, dy, once):
        """The network's own backward, which wants what this wants."""
        network = self.network
        if not self.accumulates:
            network.zero_grad()
        before = network.want_dx, network.backward_once
        network.want_dx, network.backward_once = self.want_dx, once
        try:
            return network.backward(x, dy)
        finally:
            network.want_dx, network.backward_once = before

    def _need_gradients(self, dys, shapes):
        fits = len(dys) == len(shapes)
        self.need(fits, f"dy must have {len(shapes)} parts", dy=dys)
        for dy, shape in zip(dys, shapes, strict=True):
            self.need_gradient(dy, shape)

    # ---- recordings

    def _recordings(self):
        return vars(self).setdefault("_made", Recordings())

    def _held(self):
        """Everything that a pass depends on: the modules and what they hold."""
        held = []
        for module in self.network.modules():
            held.append(module)
            held += [v for k, v in vars(module).items() if k not in PASSING and k[0] != "_"]
        return held

    def _passes(self, xs):
        """The recorded passes for such inputs, or None."""
        package, recordings = recorder_of(xs), self._recordings()
        if package is None:
            return None
        held, form = self._held(), (package.form(xs), self.want_dx, self.accumulates)
        if not recordings.hold(held):
            recordings.start(held, form)
            return None
        return recordings.of(form, lambda: self._record(package, xs), package.Refused)

    def _record(self, package, xs):
        network = self.network
        reason = misfit(network)
        if reason is not None:
            raise package.Refused(reason)
        norms = [m for m in network.find(NORMS) if m.num_batches_tracked is not None]
        before = [m.num_batches_tracked for m in norms]
        gradients = [g for g in network.gradients() if g is not None]
        counts = []

        def ahead(*xs):
            were = [m.num_batches_tracked for m in norms]
            y = network.forward(_table(xs))
            counts[:] = [(m, m.num_batches_tracked - n) for m, n in zip(norms, were, strict=True)]
            return _arrays(y, package)

        def back(xs, dys):
            dx = self._own_backward(_table(xs), _table(dys), True)
            return [] if dx is None else _arrays(dx, package)

        arrays = network.parameters(), self._statistics(), gradients
        drawn = random.reserve(0)
        try:
            passes = package.Passes(ahead, back, xs, *arrays, lambda: random.reserve(0))
        finally:
            random.rewind(*drawn)
            network.clear_state()
            for m, n in zip(norms, before, strict=True):
                m.num_batches_tracked = n
        passes.counts = counts
        return passes

    def _statistics(self):
        """The arrays of running statistics, each once."""
        buffers = (b for _, b in self.network.named_buffers())
        return list({id(b): b for b in buffers if not isinstance(b, int)}.values())

    def _pass_again(self, x, drawn):
        """The network's own pass, which it needs for backward; running statistics stay.

        drawn: of which random numbers.
        """
        now = random.reserve(0)
        norms = [(m, m.num_batches_tracked) for m in self.network.find(NORMS)]
        arrays = [(b, kernels.of(b).copy(b)) for b in self._statistics()]
        random.rewind(*drawn)
        self.network.forward(x)
        random.rewind(*now)
        for m, n in norms:
            m.num_batches_tracked = n
        for b, values in arrays:
            kernels.of(b).assign(b, values)

    def clear_state(self):
        vars(self).pop("_made", None)
        return super().clear_state()


def misfit(network):
    """Why a network's steps may call other kernels next time, or None."""
    other = unfit(network.modules(), KINDS)
    if other is not None:
        return f"every module must be of a kind in nngraph.recorded.KINDS — got {other!r}"
    for norm in network.find(NORMS):
        if norm.momentum is None:  # the mean over all batches moves less with each
            return f"a norm's momentum must be a number — got {norm!r}"
    return None


def _arrays(y, package):
    """An array, or a tuple of arrays, as a list."""
    ys = list(y) if isinstance(y, tuple) else [y]
    if any(isinstance(a, tuple) for a in ys):
        raise package.Refused("tuples in tuples come out")
    return ys


def _table(arrays):
    """The one array, or a tuple of several."""
    return tuple(arrays) if len(arrays) > 1 else arrays[0]
