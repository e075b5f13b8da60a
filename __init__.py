"""Torch's nn and nngraph in Python: layers with explicit forward and backward, and a zoo."""

import importlib

from flambeau import kernels, nn

__version__ = "0.1.0"
__all__ = ["kernels", "nn", "nngraph", "zoo"]


def __getattr__(name):
    if name in ("nngraph", "zoo"):  # networkx and the readers load when first needed
        return importlib.import_module(f"flambeau.{name}")
    raise AttributeError(f"module 'flambeau' has no attribute {name!r}")
