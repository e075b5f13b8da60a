"""Values of a graph that is being wired."""

import itertools
import os
import sys

from flambeau import nn

_serial = itertools.count()
_INSIDE = tuple(os.path.dirname(file) + os.sep for file in (nn.__file__, __file__))


class Node:
    """A value: an input, or what a module gives for other nodes.

    Modules called on nodes make nodes; so do +, -, *, / and indexing: `node[i]` is the i-th part
    of a tuple. `where` is the file and line that made it. Source: Torch7's nngraph.Node.

    >>> x = inputs("x")
    >>> (nn.Linear(3, 2)(x, name="scores") + 1).parents[0]
    Node('scores': Linear(3, 2))
    """

    def __init__(self, module, parents, name=None, path=(), vertex=None):
        self.module, self.parents, self.name, self.path = module, tuple(parents), name, path
        self.vertex = self if vertex is None else vertex  # parts of a tuple share their vertex
        self.serial = next(_serial)
        self.where = _users_line()

    def wire(self, module, inputs, name=None):
        """The node of a module applied to nodes: what calling the module on them does."""
        for x in inputs:
            if not isinstance(x, Node):
                raise TypeError(
                    f"{module!r}: called on nodes, so every input must be a node — got "
                    f"{type(x).__name__} {x!r:.60}"
                )
        return Node(module, inputs, name)

    def __getitem__(self, index):
        if not isinstance(index, int):
            raise TypeError(f"{self!r}: a part of a tuple has an integer index — got {index!r}")
        return Node(None, (), None, (*self.path, index), self.vertex)

    def __iter__(self):
        raise TypeError(f"{self!r} does not know how many parts it has; index it: node[0], node[1]")

    def chunk(self, chunks, axis=1):
        """The value cut into equal parts along an axis: a list of nodes."""
        parts = nn.Chunk(chunks, axis)(self)
        return [parts[i] for i in range(chunks)]

    def __add__(self, other):
        return nn.Add()(self, other) if isinstance(other, Node) else nn.Affine(1.0, other)(self)

    __radd__ = __add__

    def __neg__(self):
        return nn.Affine(-1.0, 0.0)(self)

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return nn.Affine(-1.0, other)(self)

    def __mul__(self, other):
        return nn.Mul()(self, other) if isinstance(other, Node) else nn.Affine(other, 0.0)(self)

    __rmul__ = __mul__

    def __truediv__(self, other):
        if isinstance(other, Node):
            return nn.Mul()(self, nn.Power(-1.0)(other))
        return nn.Affine(1.0 / other, 0.0)(self)

    def __repr__(self):
        what = self.vertex
        part = "".join(f"[{i}]" for i in self.path)
        name = f"{what.name!r}" if what.name else "unnamed"
        return f"Node({name}{part}{'' if what.module is None else f': {what.module!r}'})"


def inputs(names):
    """Input nodes by their names: inputs("x h c") are three, inputs("x") is one.

    >>> x, h = inputs("x h")
    """
    made = [Node(None, (), name) for name in names.split()]
    if not made:
        raise ValueError(f"inputs: must be given names, such as 'x h' — got {names!r}")
    return made[0] if len(made) == 1 else made


def join(*nodes, axis=1):
    """The values one after another along an axis: a node of JoinTable(axis)."""
    return nn.JoinTable(axis)(*nodes)


def _users_line():
    """The file and line of the first caller outside nn and nngraph."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename.startswith(_INSIDE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
