"""Modules: layers, containers, losses, optimisers."""

from flambeau.nn import init
from flambeau.nn.activation import (
    ELU,
    Clamp,
    LeakyReLU,
    PReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    Softplus,
    Tanh,
)
from flambeau.nn.containers import (
    Concat,
    ConcatTable,
    Container,
    Parallel,
    ParallelTable,
    Sequential,
)
from flambeau.nn.elementwise import (
    Abs,
    Affine,
    Exp,
    Log,
    Power,
    Scale,
)
from flambeau.nn.gradcheck import GradientError, gradcheck
from flambeau.nn.linear import Linear
from flambeau.nn.module import Module
from flambeau.nn.random import seed
from flambeau.nn.saving import load
from flambeau.nn.tables import (
    Add,
    Chunk,
    JoinTable,
    Max,
    Mul,
)

__all__ = [
    "Abs",
    "Add",
    "Affine",
    "Chunk",
    "Clamp",
    "Concat",
    "ConcatTable",
    "Container",
    "ELU",
    "Exp",
    "GradientError",
    "JoinTable",
    "LeakyReLU",
    "Linear",
    "Log",
    "Max",
    "Module",
    "Mul",
    "PReLU",
    "Parallel",
    "ParallelTable",
    "Power",
    "ReLU",
    "ReLU6",
    "Scale",
    "Sequential",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "gradcheck",
    "init",
    "load",
    "seed",
]
