"""Trained networks: readers of foreign formats, model definitions and an index."""

from flambeau.zoo.errors import FormatError
from flambeau.zoo.index import list
from flambeau.zoo.loading import load, save
from flambeau.zoo.preprocessing import Preprocessing
from flambeau.zoo.read import kind, read

__all__ = ["FormatError", "Preprocessing", "kind", "list", "load", "read", "save"]
