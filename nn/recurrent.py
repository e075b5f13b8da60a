"""Recurrent layers."""

from flambeau import kernels
from flambeau.nn import init, random
from flambeau.nn.module import Module, made_gradient

STEMS = "weight_ih", "weight_hh", "bias_ih", "bias_hh"


class Recurrent(Module):
    """Abstract: layers of one kind of cell, one above the other, in one or both directions."""

    kernel, gates, states = "", 1, 1  # the kernel's name, gates and states of a cell
    options = ()  # what the kernel takes besides arrays and the direction

    def build(self, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional):
        """Take the options and draw the parameters."""
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        for name, size in sizes.items():
            fits = isinstance(size, int) and size > 0
            self.need(fits, f"{name} must be a positive integer", **{name: size})
        self.need(0 <= dropout <= 1, "dropout must be from 0 to 1", dropout=dropout)
        self.input_size, self.hidden_size, self.num_layers = sizes.values()
        self.batch_first, self.dropout = batch_first, float(dropout)
        self.directions = 2 if bidirectional else 1
        rows, width, names = self.gates * hidden_size, input_size, []
        for layer in range(num_layers):
            for direction in range(self.directions):
                own = self.names(layer, direction)
                shapes = (rows, width), (rows, hidden_size), (rows,), (rows,)
                for name, shape in zip(own, shapes, strict=True):
                    given = bias or len(shape) > 1
                    setattr(self, name, init.uniform(shape, hidden_size**-0.5) if given else None)
                names += own
            width = hidden_size * self.directions
        self.params = tuple(names)

    def __getattr__(self, name):  # of params that are the module's own, and not its class's
        stem = name.removeprefix("grad_")
        if stem == name or stem not in self.params:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return made_gradient(self, stem)

    def names(self, layer, direction):
        """The names of the parameters of one layer in one direction."""
        return [f"{stem}_l{layer}{'_reverse' * direction}" for stem in STEMS]

    def forward(self, x):
        x, state = parted(x)
        self.check(x, state)
        y, state, kept = self.layers(self.turned(x), state)
        self.saved = kept if self.training else None
        return self.turned(y), state if self.states > 1 else state[0]

    def backward(self, x, dy):
        given, (x, state), k = x, parted(x), kernels.of(x)
        # in evaluation nothing was kept: the values are computed again
        kept = self.saved or self.layers(self.turned(x), state)[2]
        dy, dfinal = self.turned(dy[0]), states_of(dy[1], self.states)
        dstate = []  # of each layer and direction, the last first
        for layer in range(self.num_layers - 1, -1, -1):
            x, runs, mask = kept[layer]
            if mask:
                dy = k.dropout(dy, self.dropout, *mask)
            dys = k.split(dy, [self.hidden_size] * self.directions, 2) if len(runs) > 1 else [dy]
            want, dxs = self.want_dx or layer > 0, []
            for direction in range(len(runs) - 1, -1, -1):
                index = layer * self.directions + direction
                dlast = [d if d is None else d[index] for d in dfinal]
                ends = *runs[direction], dys[direction], dlast
                dx, *dinitial = self.run_back(x, layer, direction, *ends, want)
                dxs.append(dx)
                dstate.append(dinitial)
            dy = k.add(dxs) if want and len(dxs) > 1 else dxs[0]
        if not self.want_dx:
            return None
        dstate = [stack(k, arrays) for arrays in zip(*dstate[::-1], strict=True)] if state else []
        return as_given(given, self.turned(dy), dstate)

    def layers(self, x, state):
        """y (t, n, d h), the final states, and for each layer what backward needs."""
        k, finals, kept = kernels.of(x), [], []
        for layer in range(self.num_layers):
            runs = []
            for direction in range(self.directions):
                index = layer * self.directions + direction
                initial = [s[index] for s in state] or self.zeros(x)
                outputs = self.run(x, layer, direction, initial)
                runs.append((initial, outputs))
                last = 0 if direction else len(x) - 1
                finals.append([states[last] for states in outputs[: self.states]])
            y = runs[0][1][0] if len(runs) == 1 else k.concatenate([r[1][0] for r in runs], 2)
            mask = None
            if self.training and self.dropout and layer + 1 < self.num_layers:
                mask = random.reserve(y.size)
                y = k.dropout(y, self.dropout, *mask)
            kept.append((x, runs, mask))
            x = y
        return x, tuple(stack(k, arrays) for arrays in zip(*finals, strict=True)), kept

    def run(self, x, layer, direction, initial):
        """What the kernel gives for one layer and direction: y, then what backward needs."""
        parameters = [getattr(self, name) for name in self.names(layer, direction)]
        function = getattr(kernels.of(x), self.kernel)
        outputs = function(x, *initial, *parameters, *self.options, direction == 1)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def run_back(self, x, layer, direction, initial, outputs, dy, dlast, want_dx):
        """dx and the gradients of the initial states, by the kernel."""
        names = self.names(layer, direction)
        weights = [getattr(self, name) for name in names[:2]]
        grads = [getattr(self, "grad_" + name) for name in names]
        arrays = x, *initial, *weights, *outputs, dy, *dlast, *grads
        function = getattr(kernels.of(x), self.kernel + "_backward")
        return function(*arrays, *self.options, direction == 1, want_dx)

    def zeros(self, x):
        """The initial states of one layer that were not given."""
        k, shape = kernels.of(x), (x.shape[1], self.hidden_size)
        return [k.zeros(x, shape, x.dtype) for _ in range(self.states)]

    def turned(self, x):
        """batch_first: the first two axes exchanged."""
        return x.transpose((1, 0, 2)) if self.batch_first else x

    def check(self, x, state):
        """Raise unless x and the states fit."""
        axes, one = ("n, t", "x[None]") if self.batch_first else ("t, n", "x[:, None]")
        shape = getattr(x, "shape", ())
        must = f"x must be ({axes}, {self.input_size})"
        advice = f"; one sequence alone goes in as {one}" if len(shape) == 2 else ""
        self.need(len(shape) == 3 and shape[2] == self.input_size, must + advice, x=x)
        n, steps = shape[:2] if self.batch_first else shape[1::-1]
        self.need(steps > 0, f"{must} with at least one step", x=x)
        names = "(h0, c0)" if self.states > 1 else "h0"
        form = f"the initial state must be {names}, each (layers · directions, n, hidden_size)"
        expected = self.num_layers * self.directions, n, self.hidden_size
        shapes = [getattr(s, "shape", None) for s in state]
        fits = not state or shapes == [expected] * self.states
        self.need(fits, f"{form} = {expected}", state=state)


class LSTM(Recurrent):
    """c' = f c + i g, h' = o tanh c'

    with i, f, g, o = σ, σ, tanh, σ of W_ih x + b_ih + W_hh h + b_hh at each step

    x (t, n, i) or (x, (h0, c0)) -> (y, (h_n, c_n))        y (t, n, d h), states (l d, n, h)

    l layers and d directions, 2 if bidirectional; batch_first: x (n, t, i), y (n, t, d h). States
    that are not given are zeros and have no gradient; (x, h0, c0) means (x, (h0, c0)), as in a
    graph. weight_ih_l0 (4h, i), weight_hh_l0 (4h, h), bias_ih_l0, bias_hh_l0 (4h,), and for the
    other layers and directions …_l1, …_l0_reverse: uniform in ±1/√h. dropout: between layers.
    backward takes (dy, (dh_n, dc_n)), where None stands for zeros: (dy, None).

    Source: Hochreiter and Schmidhuber 1997, Gers et al. 2000; PyTorch's LSTM.

    >>> y, (h, c) = LSTM(3, 4, num_layers=2)(np.ones((5, 2, 3), "f4"))
    >>> y.shape, h.shape, c.shape
    ((5, 2, 4), (2, 2, 4), (2, 2, 4))
    """

    kernel, gates, states = "lstm", 4, 2

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
    ):
        options = num_layers, bias, batch_first, dropout, bidirectional
        self.build(input_size, hidden_size, *options)


class GRU(Recurrent):
    """h' = (1 - z) n + z h, with n = tanh(W_in x + b_in + r (W_hn h + b_hn))

    and r, z = σ of W_ih x + b_ih + W_hh h + b_hh at each step

    x (t, n, i) or (x, h0) -> (y, h_n)        y (t, n, d h), states (l d, n, h)

    weight_ih_l0 (3h, i), weight_hh_l0 (3h, h), bias_ih_l0, bias_hh_l0 (3h,) in the order r, z, n.
    Everything else is as in LSTM.        Source: Cho et al. 2014; PyTorch's GRU.

    >>> y, h = GRU(3, 4, bidirectional=True)(np.ones((5, 2, 3), "f4"))
    >>> y.shape, h.shape
    ((5, 2, 8), (2, 2, 4))
    """

    kernel, gates = "gru", 3

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
    ):
        options = num_layers, bias, batch_first, dropout, bidirectional
        self.build(input_size, hidden_size, *options)


class RNN(Recurrent):
    """h' = tanh(W_ih x + b_ih + W_hh h + b_hh) at each step

    x (t, n, i) or (x, h0) -> (y, h_n)        y (t, n, d h), states (l d, n, h)

    nonlinearity "relu": max(0, …) instead of tanh. weight_ih_l0 (h, i), weight_hh_l0 (h, h),
    bias_ih_l0, bias_hh_l0 (h,). Everything else is as in LSTM.
    Source: Elman 1990; PyTorch's RNN, Torch7's nn.Recurrent of the package rnn.

    >>> y, h = RNN(3, 4, nonlinearity="relu")(np.ones((5, 2, 3), "f4"))
    >>> y.shape, h.shape
    ((5, 2, 4), (1, 2, 4))
    """

    kernel = "rnn"

    def __init__(
        self,
        input_size,
        hidden_size,
        num_layers=1,
        nonlinearity="tanh",
        bias=True,
        batch_first=False,
        dropout=0.0,
        bidirectional=False,
    ):
        known = nonlinearity in ("tanh", "relu")
        self.need(known, "nonlinearity must be tanh or relu", nonlinearity=nonlinearity)
        self.options = (nonlinearity == "relu",)
        options = num_layers, bias, batch_first, dropout, bidirectional
        self.build(input_size, hidden_size, *options)


def parted(x):
    """x and the tuple of states, of x alone, (x, h), (x, (h, c)) or (x, h, c)."""
    if not isinstance(x, tuple):
        return x, ()
    return x[0], x[1] if _nested(x) else x[1:]


def as_given(x, dx, dstate):
    """The gradient in the form in which x was given."""
    if not isinstance(x, tuple):
        return dx
    return (dx, tuple(dstate)) if _nested(x) else (dx, *dstate)


def _nested(x):
    return len(x) == 2 and isinstance(x[1], tuple)


def states_of(dstate, count):
    """The gradients of the final states as a tuple; None stands for zeros."""
    if dstate is None:
        return (None,) * count
    return dstate if isinstance(dstate, tuple) else (dstate,)


def stack(k, arrays):
    """Arrays (*s) as one of (count, *s)."""
    return k.concatenate([k.contiguous(a).reshape((1, *a.shape)) for a in arrays], 0)
