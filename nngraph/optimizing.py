"""Networks made faster without changing what they compute: fewer, larger steps.

A network is laid out as one flat list of operations. Batch normalisation and scaling are folded
into the convolution before them; a sum or a ReLU behind a convolution is computed with it.
"""

import numpy as np

from flambeau import nn
from flambeau.nngraph.graph import Graph
from flambeau.nngraph.merging import chained, joined, pooled
from flambeau.nngraph.operations import Op, Tuple, absorb, consumers, flat, forget
from flambeau.nngraph.optimized import OptimizedGraph
from flambeau.nngraph.wiring import Step

BOUNDS = {nn.ReLU: (0.0, None), nn.ReLU6: (0.0, 6.0)}
FOLDED = nn.BatchNorm2d, nn.Scale
PASSED = nn.Dropout, nn.Identity
WEIGHTED = nn.Conv2d, nn.ConvTranspose2d
CARRIED = "name", "labels", "preprocessing", "input_shapes"


def optimize(network):
    """An OptimizedGraph that computes what the network does in evaluation, in fewer, larger steps.

    network: any module; it is left as it was. Sequential, Concat, ConcatTable and Graph are laid
    out flat, under dotted names. Dropout and Identity are left out; BatchNorm2d and Scale are
    folded into the Conv2d or ConvTranspose2d before them; a sum, a ReLU or a ReLU6 behind a Conv2d
    becomes part of it, and the step has the name of the last; so do zeros padded before it.
    Convolutions that are only joined become one step, and so do a convolution 1 x 1 or of an image,
    one channel by channel behind it and a 1 x 1 convolution of that; and a 3 x 3 convolution and
    the MaxPool2d(2) behind it. Outputs agree within rounding.

    The result is for inference only: its weights are copies that cannot be written to, and its
    backward refuses. Inner values that were folded away have no name any more.

    >>> optimize(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    Graph(x -> 2
      (2) FusedConv2d(3, 4, (3, 3), low=0.0) of x
    )
    """
    ops = []
    if isinstance(network, Graph):
        sources = [Op(network.steps[slot].name, None) for slot in network.ins]
        ops += sources
        values = inline(ops, network, [(op, ()) for op in sources], "")
        outs = [follow(values[slot], path) for slot, path in network.outs]
        aliases = {n: follow(values[slot], path) for n, (slot, path) in network.aliases.items()}
    else:
        sources, aliases = [Op("x", None)], {}
        ops += sources
        outs = [expand(ops, network, [(sources[0], ())], "", "")]
    for rewrite in (folded, padded, fused, joined, chained, pooled):
        ops = rewrite(ops, outs, aliases)
    graph = wired(ops, sources, outs, aliases)
    for name in CARRIED:
        if name in vars(network):
            setattr(graph, name, getattr(network, name))
    return graph


# ---- laying out


def expand(ops, module, inputs, name, where):
    """Append the operations of a module to `ops`; the value that it gives."""
    if isinstance(module, PASSED):
        return inputs[0]
    if isinstance(module, nn.Sequential):
        for child, m in module.children():
            inputs = [expand(ops, m, inputs, dotted(name, child), where)]
        return inputs[0]
    if isinstance(module, (nn.Concat, nn.ConcatTable)):
        branches = [
            expand(ops, m, inputs, dotted(name, child), where) for child, m in module.children()
        ]
        if isinstance(module, nn.ConcatTable):
            return Tuple(branches)
        inputs, module = branches, nn.JoinTable(module.axis)
    if isinstance(module, Graph):
        values = inline(ops, module, spread(inputs), name)
        outs = [follow(values[slot], path) for slot, path in module.outs]
        return outs[0] if len(outs) == 1 else Tuple(outs)
    ops.append(Op(name or type(module).__name__.lower(), module, spread(inputs), where))
    return ops[-1], ()


def spread(inputs):
    """The inputs of an operation, one by one: a single tuple is what it consists of."""
    values = list(inputs[0]) if len(inputs) == 1 and isinstance(inputs[0], Tuple) else list(inputs)
    if any(isinstance(value, Tuple) for value in values):
        raise ValueError("optimize: a module whose input is a tuple of tuples cannot be laid out")
    return values


def inline(ops, graph, inputs, name):
    """Append the operations of a graph; the value of each of its slots."""
    values = dict(zip(graph.ins, inputs, strict=True))
    for slot, step in enumerate(graph.steps):
        if slot not in values:
            given = [follow(values[parent], path) for parent, path in step.inputs]
            module = graph.named[step.name]
            values[slot] = expand(ops, module, given, dotted(name, step.name), step.where)
    return values


def follow(value, path):
    """The part of a value at a path."""
    for index in path:
        value = value[index] if isinstance(value, Tuple) else (value[0], (*value[1], index))
    return value


def dotted(name, child):
    """The name of a child."""
    return f"{name}.{child}" if name else child


# ---- rewriting


def folded(ops, outs, aliases):
    """The operations with every normalisation and scaling inside the weights before it."""
    kept = []
    for op in ops:
        before = op.inputs[0][0] if isinstance(op.module, FOLDED) else None
        alone = before is not None and consumers(ops, outs)[id(before)] == 1
        if alone and isinstance(before.module, WEIGHTED) and fixed(op.module):
            before.module = scaled(before.module, *factors(op.module))
            absorb(before, op, ops, outs, aliases)
        else:
            kept.append(op)
    return kept


def fixed(module):
    """True when the module scales each channel by numbers that do not depend on its input."""
    return isinstance(module, nn.Scale) or module.running_mean is not None


def factors(module):
    """(scale, shift) for each channel, in float64: y = scale x + shift."""
    weight, bias = (None if a is None else a.astype("f8") for a in (module.weight, module.bias))
    scale = np.ones(module.num_features) if weight is None else weight
    shift = np.zeros(module.num_features) if bias is None else bias
    if isinstance(module, nn.Scale):
        return scale, shift
    scale = scale / np.sqrt(module.running_var.astype("f8") + module.eps)
    return scale, shift - module.running_mean * scale


def scaled(module, scale, shift):
    """A copy of a layer with weights whose output is scale y + shift."""
    twin = module.clone()
    weight = module.weight.astype("f8")
    if isinstance(module, nn.ConvTranspose2d):  # weight (c, k/groups, p, q)
        per_group = scale.reshape(module.groups, 1, -1, 1, 1)
        grouped = weight.reshape(module.groups, -1, *weight.shape[1:])
        weight = (grouped * per_group).reshape(weight.shape)
    else:
        weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    bias = 0 if module.bias is None else module.bias.astype("f8")
    twin.weight = np.ascontiguousarray(weight, module.weight.dtype)
    twin.bias = (bias * scale + shift).astype(module.weight.dtype)
    return twin


def fused(ops, outs, aliases):
    """The operations with convolutions that add and clamp, where they did so one after another."""
    for op in ops:
        if isinstance(op.module, nn.Conv2d):
            op.module = as_fused(op.module)
    kept = []
    for op in ops:
        into = None
        counts = consumers(ops, outs)
        if isinstance(op.module, nn.Add) and len(op.inputs) == 2:
            ready = [v[0] for v in op.inputs if open_to(v[0], counts, adds=True)]
            if ready:  # the last one, which takes the sum's place: what it adds is there by then
                into = max(ready, key=kept.index)
                into.inputs += [v for v in op.inputs if v[0] is not into]
                into.module = changed(into.module, adds=True)
        elif type(op.module) in BOUNDS and open_to(op.inputs[0][0], counts):
            into = op.inputs[0][0]
            low, high = BOUNDS[type(op.module)]
            into.module = changed(into.module, low=low, high=high)
        if into is None:
            kept.append(op)
        else:
            absorb(into, op, ops, outs, aliases)
            kept.remove(into)
            kept.append(into)
    return kept


def padded(ops, outs, aliases):
    """The operations with every ZeroPad2d inside the Conv2d behind it."""
    kept = list(ops)
    for op in ops:
        before = op.inputs[0][0] if isinstance(op.module, nn.Conv2d) else None
        pad = before.module if before is not None else None
        alone = before is not None and consumers(ops, outs)[id(before)] == 1
        if isinstance(pad, nn.ZeroPad2d) and min(pad.padding) >= 0 and alone:
            left, right, top, bottom = pad.padding
            h, w = op.module.padding
            op.module = as_fused(op.module, (top + h, left + w, bottom + h, right + w))
            op.inputs, before.inputs = before.inputs, []
            forget(before, aliases)
            kept.remove(before)
    return kept


def open_to(op, counts, adds=False):
    """True for a convolution that nobody else uses and that does not clamp (or add) yet."""
    m = op.module
    if not isinstance(m, nn.FusedConv2d) or counts[id(op)] != 1:
        return False
    return m.low is None and m.high is None and not (adds and m.adds)


def as_fused(conv, padding=None):
    """The FusedConv2d of a Conv2d, with other padding if it is given."""
    options = conv.stride, padding or conv.padding, conv.dilation, conv.groups
    defaults = (1, 1), (0, 0), (1, 1), 1
    while options and options[-1] == defaults[len(options) - 1]:
        options = options[:-1]
    with nn.init.skipped():
        made = nn.FusedConv2d(conv.in_channels, conv.out_channels, conv.kernel_size, *options)
    made.weight = conv.weight
    made.bias = conv.bias
    return made


def changed(fused, **options):
    """The FusedConv2d with other options, sharing its arrays."""
    args, kwargs = fused.arguments
    with nn.init.skipped():
        made = nn.FusedConv2d(*args, **kwargs | {k: v for k, v in options.items() if v is not None})
    made.weight, made.bias = fused.weight, fused.bias
    return made


# ---- wiring


def wired(ops, sources, outs, aliases):
    """The Graph of the operations, its arrays copied and closed to writing."""
    used, todo = set(), [op for op, _ in flat(outs)]
    while todo:
        op = todo.pop()
        if id(op) not in used:
            used.add(id(op))
            todo += [parent for parent, _ in op.inputs]
    ops = [op for op in ops if id(op) in used or op in sources]
    slots = {id(op): i for i, op in enumerate(ops)}
    graph = OptimizedGraph.__new__(OptimizedGraph)
    graph.steps = tuple(
        Step(op.name, tuple((slots[id(p)], path) for p, path in op.inputs), op.where) for op in ops
    )
    graph.named = {op.name: own(op.module) for op in ops if op.module is not None}
    graph.ins = tuple(slots[id(op)] for op in sources)
    graph.outs = tuple((slots[id(op)], path) for op, path in flat(outs))
    graph.aliases = {
        name: (slots[id(value[0])], value[1])
        for name, value in aliases.items()
        if not isinstance(value, Tuple) and id(value[0]) in slots
    }
    return graph.freeze()


def own(module):
    """A copy of a module with arrays of its own that cannot be written to."""
    twin = module.clone()
    for m in twin.modules():
        for name in (*m.params, *m.buffers):
            array = getattr(m, name)
            if isinstance(array, np.ndarray):
                array = np.array(array)  # memory of its own: nothing else can write to it
                array.flags.writeable = False
                setattr(m, name, array)
    return twin
