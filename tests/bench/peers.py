"""The same network in PyTorch."""

import torch

from flambeau import nn, nngraph


class Wired(torch.nn.Module):
    """A Graph of ours, step by step in PyTorch."""

    def __init__(self, graph):
        super().__init__()
        self.graph = graph
        self.parts = torch.nn.ModuleDict({name: peer(m) for name, m in graph.children()})

    def forward(self, x):
        values = [None] * len(self.graph.steps)
        values[self.graph.ins[0]] = x
        for slot, step in enumerate(self.graph.steps):
            if step.name in self.graph.named:
                inputs = [values[parent] for parent, _ in step.inputs]
                values[slot] = self.parts[step.name](*inputs)
        return values[self.graph.outs[0][0]]


class Branches(torch.nn.Module):
    """A Concat of ours."""

    def __init__(self, concat):
        super().__init__()
        self.axis = concat.axis
        self.parts = torch.nn.ModuleList(peer(m) for m in concat)

    def forward(self, x):
        return torch.cat([part(x) for part in self.parts], self.axis)


class Sum(torch.nn.Module):
    """An Add of ours."""

    def forward(self, *xs):
        y = xs[0]
        for x in xs[1:]:
            y = y + x
        return y


class Join(torch.nn.Module):
    """A JoinTable of ours."""

    def __init__(self, axis):
        super().__init__()
        self.axis = axis

    def forward(self, *xs):
        return torch.cat(xs, self.axis)


class Scale(torch.nn.Module):
    """A Scale of ours: y = w x + b in each channel."""

    def __init__(self, features):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(features))
        self.bias = torch.nn.Parameter(torch.zeros(features))

    def forward(self, x):
        return x * self.weight[:, None, None] + self.bias[:, None, None]


def peer(module):
    """PyTorch's module for one of ours, with a copy of its weights."""
    if isinstance(module, nngraph.Graph):
        return Wired(module)
    if isinstance(module, nn.Sequential):
        return torch.nn.Sequential(*(peer(m) for m in module))
    if isinstance(module, nn.Concat):
        return Branches(module)
    theirs = _layer(module)
    state = {name: torch.from_numpy(a.copy()) for name, a in module.state_dict().items()}
    theirs.load_state_dict(state, strict=False)  # batch norm of PyTorch also counts its batches
    return theirs


def _layer(module):
    """PyTorch's module for one of ours without children, with fresh weights."""
    if isinstance(module, nn.Add):
        return Sum()
    if isinstance(module, nn.JoinTable):
        return Join(module.axis)
    if isinstance(module, nn.Scale):
        return Scale(module.num_features)
    return eval(repr(module), vars(torch.nn))
