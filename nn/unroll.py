"""Any cell run over time."""

from flambeau import kernels
from flambeau.nn.module import Arguments, Module
from flambeau.nn.recurrent import as_given, parted, stack, states_of


class Unroll(Module):
    """(y_t, *state) = cell(x_t, *state) for each step t

    (x, state) -> (y, state)        x (t, *s), y (t, *s'), state an array or a tuple of them

    cell: a module or graph from (x_t, *state) to (y_t, *state), or to the new state alone, whose
    first array is then y_t. One cell serves all steps; backward goes back through time.
    steps: no gradient passes from a stretch of so many steps to the one before (truncated
    back-propagation); None: it passes them all. (x, h, c) means (x, (h, c)), as in a graph.
    Source: Werbos 1990; Torch7's nn.Sequencer of the package rnn.

    >>> from flambeau import nn
    >>> cell = nn.Sequential(nn.JoinTable(1), nn.Linear(3 + 4, 4), nn.Tanh())
    >>> y, h = Unroll(cell)(np.ones((5, 2, 3), "f4"), np.zeros((2, 4), "f4"))
    >>> y.shape, h.shape
    ((5, 2, 4), (2, 4))
    """

    def __init__(self, cell, steps=None):
        self.need(isinstance(cell, Module), "cell must be a Module", cell=cell)
        fits = steps is None or (isinstance(steps, int) and steps > 0)
        self.need(fits, "steps must be a positive integer or None", steps=steps)
        self.cell, self.steps = cell, steps

    def set_child(self, name, module):
        super().set_child(name, module)
        self.arguments = Arguments((self.cell, self.steps), {})  # what save records

    def forward(self, x):
        ys, state, kept = self.run(*parted(x))
        self.saved = kept if self.training else None
        return stack(kernels.of(x), ys), state if len(state) > 1 else state[0]

    def run(self, x, state):
        """The outputs, the last state, and for each step the cell's input and what it kept."""
        self.need(len(getattr(x, "shape", ())) > 0 and len(x) > 0, "x must be (t, *)", x=x)
        self.need(state, "an initial state must be given: (x, state)", x=x)
        ys, kept, count = [], [], len(state)
        for t in range(len(x)):
            inputs = x[t], *state
            y = self.cell.forward(inputs)
            y = y if isinstance(y, tuple) else (y,)
            must = f"cell must give y_t and {count} arrays of state, or these alone"
            self.need(len(y) in (count, count + 1), must, y=y)
            ys.append(y[0])
            kept.append((inputs, self.cell.take_saved(), len(y) > count))
            state = y[len(y) - count :]
        return ys, state, kept

    def backward(self, x, dy):
        given, (x, state), k = x, parted(x), kernels.of(x)
        # in evaluation nothing was kept: the values are computed again
        kept = self.saved or self.run(x, state)[2]
        dy, dstate = dy[0], states_of(dy[1], len(state))
        self.cell.want_dx = True  # the gradient of the state goes the same way
        dxs = []
        for t in range(len(x) - 1, -1, -1):
            inputs, saved, apart = kept[t]
            cut = self.steps and t + 1 < len(x) and (t + 1) % self.steps == 0
            dstate = self.given(inputs[1:], [None] * len(state) if cut else dstate)
            dout = (dy[t], *dstate) if apart else (k.add([dy[t], dstate[0]]), *dstate[1:])
            self.cell.put_saved(saved)
            dx, *dstate = self.cell.backward(inputs, dout if len(dout) > 1 else dout[0])
            self.cell.take_saved()
            dxs.append(dx)
        return as_given(given, stack(k, dxs[::-1]), dstate) if self.want_dx else None

    def given(self, state, dstate):
        """The gradients of the states, zeros for None."""
        return [
            kernels.of(s).zeros(s, s.shape, s.dtype) if d is None else d
            for s, d in zip(state, dstate, strict=True)
        ]
