"""From nodes to the steps of a graph."""

from typing import NamedTuple

from flambeau import nn
from flambeau.nngraph.node import Node


class Step(NamedTuple):
    """One module of a graph: where its inputs are, and who wired it."""

    name: str
    inputs: tuple  # of (slot, path): the value computed by step `slot`, or a part of that tuple
    where: str


def nodes(what, given):
    """One node or several, as a list."""
    nodes = list(given) if isinstance(given, (list, tuple)) else [given]
    for node in nodes:
        if not isinstance(node, Node):
            hint = "; did you mean to call it on a node?" if isinstance(node, nn.Module) else ""
            raise TypeError(f"Graph: an {what} must be a Node — got {node!r:.80}{hint}")
    if not nodes:
        raise ValueError(f"Graph: needs at least one {what}")
    return nodes


def reachable(inputs, outputs):
    """The vertices that the outputs depend on, each after those it needs."""
    found, todo = {}, [node.vertex for node in outputs]
    while todo:
        vertex = todo.pop()
        if id(vertex) not in found:
            found[id(vertex)] = vertex
            todo += [parent.vertex for parent in vertex.parents]
    given = {id(node) for node in inputs}
    for node in inputs:
        if node.module is not None or node.path:
            raise ValueError(f"Graph: an input must be made by nngraph.inputs — got {node!r}")
        if id(node) not in found:
            raise ValueError(f"Graph: input {node.name!r} ({node.where}) reaches no output")
    for vertex in found.values():
        if vertex.module is None and id(vertex) not in given:
            raise ValueError(
                f"Graph: the outputs depend on the input {vertex.name!r} ({vertex.where}), "
                "which is not among the inputs given"
            )
    return sorted(found.values(), key=lambda vertex: vertex.serial)


def names(vertices):
    """A name for each vertex: its own, or its type and a number."""
    taken, counts, found = {}, {}, []
    given = {v.name for v in vertices if v.name}
    for vertex in vertices:
        name = vertex.name
        while not name or (not vertex.name and name in given):
            kind = type(vertex.module).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            name = f"{kind}_{counts[kind]}"
        if name in taken or "." in name:
            problem = f"is used at {taken[name].where}" if name in taken else "holds a dot"
            raise ValueError(f"Graph: the name {name!r} ({vertex.where}) {problem}")
        taken[name] = vertex
        found.append(name)
    return found


def part(value, path):
    """The part of nested tuples at a path of indices."""
    for index in path:
        value = value[index]
    return value
