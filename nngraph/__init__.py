"""Networks as graphs of modules."""

from flambeau.nngraph.graph import Graph
from flambeau.nngraph.node import Node, inputs, join
from flambeau.nngraph.optimized import OptimizedGraph
from flambeau.nngraph.optimizing import optimize
from flambeau.nngraph.recorded import Recorded

__all__ = ["Graph", "Node", "OptimizedGraph", "Recorded", "inputs", "join", "optimize"]
