"""Steps of a graph that are computed as one in training: one or two layers, a sum and a ReLU."""

from typing import NamedTuple

from flambeau import nn
from flambeau.nn.container import as_it_is, overlapping
from flambeau.nn.containers import takes_before, takes_behind
from flambeau.nn.normalization import NORMS
from flambeau.nngraph.wiring import part


class Joint(NamedTuple):
    """A ReLU that is computed with a layer, and with the Add between if there is; see WithReLU.

    layer: the layer's name. source, other: (slot, path) of what goes into it and of what is added,
    or None. inside: the slots whose values are never there.
    second: the name of the step whose normalisation what is added has still to go through, or None.
    """

    layer: str
    source: tuple
    other: tuple | None
    inside: tuple
    second: str | None = None

    def forward(self, graph, values):
        """The value of the last of the steps."""
        layer, x = graph.named[self.layer], value(values, self.source)
        if self.other is None:
            return layer.forward_relu(x)
        other = value(values, self.other)
        if self.second is None:
            return layer.forward_sum_relu(x, other)
        return layer.forward_pair_relu(x, last_norm(graph.named[self.second]), other)

    def backward(self, graph, values, y, dy, wanted):
        """(slot, path) and gradient of what came in."""
        layer, x = graph.named[self.layer], value(values, self.source)
        layer.want_dx = wanted[self.source[0]]
        if self.other is None:
            return [(self.source, layer.backward_relu(x, y, dy))]
        if self.second is None:
            dx, dother = layer.backward_sum_relu(x, y, dy, True)
        else:
            norm, other = last_norm(graph.named[self.second]), value(values, self.other)
            norm.want_dx = wanted[self.other[0]]
            dx, dother = layer.backward_pair_relu(x, norm, other, y, dy)
        return [(self.source, dx), (self.other, dother)]

    def shortened(self, graph):
        """The slot of the Sequential whose last module is left to this, or None."""
        if self.second is None or isinstance(graph.named[self.second], NORMS):
            return None
        return self.other[0]


def value(values, place):
    """The value at a (slot, path)."""
    slot, path = place
    return part(values[slot], path)


def last_norm(module):
    """A normalisation, or the one that a Sequential ends with; None for another module.

    It must be in training and, in a Sequential, stand behind others and occur just once.
    """
    found = module
    if as_it_is(module, nn.Sequential) and module.training and len(module) > 1:
        name, found = next(reversed(module.named.items()))
        if name in overlapping(module.named):
            return None
    return found if as_it_is(found, *NORMS) and found.training else None


def pair(joint, graph, module):
    """The Joint with what is added: the normalisation that `module` is or ends with, if it does."""
    if last_norm(module) is None:
        return joint
    slot, _ = joint.other
    second = graph.steps[slot]
    if isinstance(module, NORMS):
        return joint._replace(
            other=second.inputs[0], inside=(*joint.inside, slot), second=second.name
        )
    return joint._replace(second=second.name)


def joints(graph, shared, seen):
    """{slot: Joint}, for training: of a ReLU with the layer before it, or the pooling behind it.

    shared: names of modules that occur twice. seen: slots whose values others see or may change.
    """
    users = [[] for _ in graph.steps]
    for slot, step in enumerate(graph.steps):
        for used, path in step.inputs:
            users[used].append((slot, path))
    for used, path in graph.outs:
        users[used].append((None, path))

    def plain(slot):
        """The module of a step when no other step has it and nobody else sees the value."""
        name = graph.steps[slot].name
        return graph.named.get(name) if name not in shared and slot not in seen else None

    def alone(slot, path):
        """True for a whole value that just one step uses."""
        return not path and len(users[slot]) == 1

    found = {}
    for slot, step in enumerate(graph.steps):
        if not as_it_is(plain(slot), nn.ReLU):
            continue
        behind = users[slot][0][0] if alone(slot, ()) and not users[slot][0][1] else None
        if behind is not None and takes_before(plain(behind)):
            found[behind] = Joint(graph.steps[behind].name, step.inputs[0], None, (slot,))
            continue
        ((before, path),) = step.inputs
        if not alone(before, path):
            continue
        if takes_behind(plain(before)):
            layer = graph.steps[before]
            found[slot] = Joint(layer.name, layer.inputs[0], None, (before,))
        elif as_it_is(plain(before), nn.Add) and len(graph.steps[before].inputs) == 2:
            one, two = graph.steps[before].inputs
            for (last, path), other in ((one, two), (two, one)):
                norm = plain(last)
                if alone(last, path) and as_it_is(norm, *NORMS) and norm.training:
                    layer = graph.steps[last]
                    joint = Joint(layer.name, layer.inputs[0], other, (last, before))
                    found[slot] = pair(joint, graph, plain(other[0]) if alone(*other) else None)
                    break
    return found
