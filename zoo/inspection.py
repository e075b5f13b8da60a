"""What a weights file is and holds, without running it."""

import os

import numpy as np

from flambeau import nn
from flambeau.zoo.read import kind, read

TITLES = {
    "pytorch": "PyTorch weights",
    "safetensors": "safetensors weights",
    "hdf5": "HDF5 file",
    "keras": "Keras weights",
    "caffe": "Caffe weights (caffemodel)",
    "prototxt": "Caffe network description (prototxt)",
    "torch7": "Torch7 file",
    "onnx": "ONNX network",
}


def describe(path):
    """A page about a file: its format, its size, its tensors and their number of values."""
    form = kind(path)
    size = os.path.getsize(path)
    title = f"{path}: {TITLES[form]}, {size:,} bytes"
    if form in ("torch7", "onnx"):
        return f"{title}\nwhat is in it cannot be shown yet"
    if form == "prototxt":
        return "\n".join([title, *_prototxt(path)])
    if form == "hdf5" and nn.saving.is_saved(path):
        network = nn.load(path)
        lines = [f"a network saved by flambeau: {type(network).__name__}", network.summary()]
        return "\n".join([title, *lines])
    return "\n".join([title, *_tensors(read(path))])


def _prototxt(path):
    from flambeau import zoo

    network = zoo.load(path)
    inputs = ", ".join(f"{name} {shape}" for name, shape in network.input_shapes.items())
    return [f"name: {network.name}", f"inputs: {inputs}", network.summary()]


def _tensors(tensors):
    """A line for each tensor, and the sum."""
    rows = [
        (name, str(tuple(np.shape(a))), str(np.asarray(a).dtype)) for name, a in tensors.items()
    ]
    widths = [max((len(row[i]) for row in rows), default=0) for i in (0, 1)]
    lines = [f"  {a:{widths[0]}}  {b:{widths[1]}}  {c}" for a, b, c in rows]
    total = sum(int(np.size(a)) for a in tensors.values())
    return [*lines, f"{len(rows)} tensors, {total:,} values"]
