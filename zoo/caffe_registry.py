"""What the readers of Caffe's layers are given, and where they are registered."""

import math

import numpy as np

from flambeau.zoo.errors import FormatError

readers = {}  # type in the file -> function(layer, *shapes) -> modules, shape; number of bottoms
fillers = {}  # type -> function(layer, module, blobs), where Caffe keeps parameters in its own way

LIMIT = 2**29  # float32 numbers: a protobuf message ends at 2 GiB, so no caffemodel holds more


class Layer:
    """One layer of a file, as its reader sees it: `options` are its LayerParameter."""

    def __init__(self, options, phase):
        self.name, self.type, self.options = options.name, options.type or "untyped", options
        self.phase = phase  # "TRAIN" or "TEST"
        self.n_tops = len(options.top)
        self.grids, self.grid = (), None  # of its bottoms and of its top, see caffe_layers.coarser
        self.notes = []  # what the user should know of it

    def note(self, text):
        """Tell the user so of this layer."""
        self.notes.append(f"{self.type} layer {self.name!r} {text}")

    def error(self, text):
        """The FormatError that says so of this layer."""
        return FormatError(f"{self.type} layer {self.name!r}: {text}")

    def need(self, condition, text):
        """Raise it unless the condition holds."""
        if not condition:
            raise self.error(text)

    def axis(self, axis, shape):
        """An axis that may be negative as one that is not."""
        self.need(-len(shape) <= axis < len(shape), f"axis {axis} must be one of those of {shape}")
        return axis % len(shape)

    def check_size(self, *dims):
        """Before memory is taken: parameters that no file can hold are a damaged file."""
        self.need(min(dims) > 0, f"its parameters would be {dims}: sizes must be positive")
        self.need(math.prod(dims) <= LIMIT, f"its parameters {dims} are more than a file can hold")

    def fit(self, blobs, shapes):
        """The blobs in the shapes that the prototxt asks for.

        Old files write 4 axes whatever the parameter has, as (1, 1, 1, k): ones in front are free.
        """
        says = ", ".join(map(str, shapes))
        holds = ", ".join(str(blob.shape) for blob in blobs) or "none"
        alike = len(blobs) == len(shapes) and all(
            _significant(blob.shape) == _significant(shape)
            for blob, shape in zip(blobs, shapes, strict=True)
        )
        self.need(alike, f"the prototxt asks for blobs {says} — the caffemodel holds {holds}")
        return [blob.reshape(shape) for blob, shape in zip(blobs, shapes, strict=True)]


def _significant(shape):
    """A shape without the ones in front."""
    shape = tuple(shape)
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def decimal(value):
    """A float32 option as the decimal number that was written: 1e-05, not 9.999999747378752e-06."""
    return float(str(np.float32(value)))


def reads(*types, bottoms=1):
    """Register the reader of a foreign type, by its name in V2 files and, in capitals, in V1 files.

    bottoms: how many the layer has; None: one or more.
    """

    def register(function):
        readers.update(dict.fromkeys(types, (function, bottoms)))
        return function

    return register


def fills(*types):
    """Register how the parameters of these types are taken from their blobs."""

    def register(function):
        fillers.update(dict.fromkeys(types, function))
        return function

    return register


def state(module):
    """The names of the arrays that a file must bring for a module, in Caffe's order."""
    names = (*module.params, *module.buffers)
    return [name for name in names if hasattr(getattr(module, name), "shape")]


def fill(layer, module, blobs):
    """Copy the blobs of a layer into its module."""
    if layer.type in fillers:
        return fillers[layer.type](layer, module, blobs)
    arrays = [getattr(module, name) for name in state(module)]
    for array, blob in zip(arrays, layer.fit(blobs, [a.shape for a in arrays]), strict=True):
        array[...] = blob
