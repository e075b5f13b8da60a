"""The table of tests: a row for each module, its inputs and what it is compared with.

Each family's file lists its rows as CASES. The generic tests of tests/test_modules.py and
tests/test_torch.py run over every row and every device.
"""

import importlib
import pkgutil
from dataclasses import dataclass

import numpy as np

from flambeau import nn


@dataclass(frozen=True)
class Case:
    """One module and its inputs.

    text: the constructor call, which must also be its repr: "Linear(5, 3)"
    inputs: shapes of float inputs; an ndarray stands for itself
    torch: PyTorch's constructor call; "" the same text, None not compared
    wrong: shapes (or tuples of shapes, for several inputs) that must be refused
    positive: draw inputs from (0.5, 1.5) instead of a normal distribution
    empty: inputs with batch 0 are legal
    """

    text: str
    inputs: tuple = ()
    torch: str | None = ""
    wrong: tuple = ()
    positive: bool = False
    empty: bool = True

    def make(self, seed=3):
        """The module, with weights drawn from a seed; equal ones are moved apart."""
        nn.seed(seed)
        module = eval(self.text, vars(nn))
        generator = np.random.default_rng(seed)
        for array in module.parameters():
            array += generator.uniform(-0.1, 0.1, array.shape).astype(array.dtype)
        return module

    def draw(self, dtype=np.float32, shapes=None, seed=5):
        """The inputs: one array, or a tuple of them."""
        generator = np.random.default_rng(seed)
        xs = [self._one(s, generator, dtype) for s in (self.inputs if shapes is None else shapes)]
        return xs[0] if len(xs) == 1 else tuple(xs)

    def _one(self, shape, generator, dtype):
        if isinstance(shape, np.ndarray):
            return shape
        x = generator.uniform(0.5, 1.5, shape) if self.positive else generator.normal(size=shape)
        return x.astype(dtype)


def row(text, *inputs, **options):
    """A Case in one line: row("Linear(5, 3)", (4, 5), wrong=[(4, 6)])."""
    return Case(text, inputs=inputs, **options)


def every(name="CASES"):
    """The rows of all families, as (family, row)."""
    found = []
    for info in pkgutil.iter_modules(__path__):
        family = importlib.import_module(f"cases.{info.name}")
        found += [(info.name, case) for case in getattr(family, name, [])]
    return found
