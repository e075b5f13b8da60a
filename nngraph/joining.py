"""Steps of a graph that are computed as one in training: normalisation, a sum and a ReLU."""

from typing import NamedTuple

from flambeau import nn
from flambeau.nn.containers import as_it_is
from flambeau.nn.normalization import NORMS
from flambeau.nngraph.wiring import part


class Joint(NamedTuple):
    """A ReLU that is computed with the BatchNorm before it, and with the Add between if there is.

    norm: the name of the BatchNorm. source, other: (slot, path) of what it normalises and of what
    is added, or None. inside: the slots whose values are never there.
    """

    norm: str
    source: tuple
    other: tuple | None
    inside: tuple

    def forward(self, graph, values):
        """The value of the ReLU."""
        other = None if self.other is None else part(values[self.other[0]], self.other[1])
        return graph.named[self.norm].forward_relu(self._x(values), other)

    def backward(self, graph, values, y, dy, wanted):
        """(slot, path) and gradient of what came in."""
        norm, added = graph.named[self.norm], self.other is not None
        norm.want_dx = wanted[self.source[0]]
        dx, dother = norm.backward_relu(self._x(values), y, dy, added)
        return [(self.source, dx)] + ([(self.other, dother)] if added else [])

    def _x(self, values):
        return part(values[self.source[0]], self.source[1])


def joints(graph, shared, seen):
    """{slot of a ReLU: Joint}, for training.

    shared: names of modules that occur twice. seen: slots whose values others see or may change.
    """
    users = [0] * len(graph.steps)
    for used, _ in [value for step in graph.steps for value in step.inputs] + list(graph.outs):
        users[used] += 1

    def plain(slot, *kinds):
        """The module of a step when it is just of such a kind and nobody else needs the value."""
        step = graph.steps[slot]
        module = graph.named.get(step.name)
        mine = step.name not in shared and slot not in seen
        return module if mine and as_it_is(module, *kinds) else None

    found = {}
    for slot, step in enumerate(graph.steps):
        if not plain(slot, nn.ReLU) or step.inputs[0][1] or users[step.inputs[0][0]] != 1:
            continue
        before = step.inputs[0][0]
        pairs = [((before, ()), None)]
        if plain(before, nn.Add) and len(graph.steps[before].inputs) == 2:
            one, two = graph.steps[before].inputs
            pairs = [(one, two), (two, one)]
        for (last, path), other in pairs:
            norm = plain(last, *NORMS)
            if norm and norm.training and not path and users[last] == 1:
                inside = (last,) if other is None else (last, before)
                found[slot] = Joint(
                    graph.steps[last].name, graph.steps[last].inputs[0], other, inside
                )
                break
    return found
