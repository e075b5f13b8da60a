"""Networks as graphs of modules."""

from flambeau.nngraph.graph import Graph
from flambeau.nngraph.node import Node, inputs, join

__all__ = ["Graph", "Node", "inputs", "join"]
