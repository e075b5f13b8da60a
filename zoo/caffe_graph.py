"""From Caffe's list of layers to a graph: blobs by name, shapes, what is left off."""

from typing import NamedTuple

from flambeau import nngraph
from flambeau.zoo.caffe_registry import Layer, readers
from flambeau.zoo.errors import FormatError

INPUTS = {"Input", "DummyData", "DUMMY_DATA"}  # every top is an input
DATA = {
    "Data", "ImageData", "HDF5Data", "MemoryData", "WindowData",
    "DATA", "IMAGE_DATA", "HDF5_DATA", "MEMORY_DATA", "WINDOW_DATA",
}  # fmt: skip  # the first top is the input, the others are labels
LOSSES = {
    "Accuracy", "ContrastiveLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss",
    "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "SoftmaxWithLoss",
    "ACCURACY", "CONTRASTIVE_LOSS", "EUCLIDEAN_LOSS", "HINGE_LOSS", "INFOGAIN_LOSS",
    "MULTINOMIAL_LOGISTIC_LOSS", "SIGMOID_CROSS_ENTROPY_LOSS", "SOFTMAX_LOSS",
}  # fmt: skip


class Value(NamedTuple):
    """What a blob name stands for at one point of the list: the last layer that wrote it."""

    node: nngraph.Node
    shape: tuple
    grid: tuple | None  # where its pixels lie, see caffe_layers.coarser


class Wiring:
    """Wires layer after layer; `graph()` ends it.

    shapes: {blob: shape} of inputs, before what the file says.
    layers: the (layer, module) pairs made so far.
    """

    def __init__(self, shapes, phase):
        self.shapes, self.phase = dict(shapes), phase
        self.values = {}  # blob name -> Value
        self.left_off = {}  # blob name -> what it is, of blobs that hang on labels
        self.unread = {}  # blob names nobody has read since they were written, in that order
        self.aliases, self.names = {}, set()
        self.inputs, self.layers, self.notes = {}, [], []

    def input(self, blob, shape):
        """An input of the network."""
        shape = tuple(self.shapes.get(blob, shape or ()))
        if not shape or min(shape) < 1:
            raise FormatError(
                f"the file gives the input {blob!r} no shape that can be used ({shape or None}): "
                f"load it with shapes={{{blob!r}: (n, c, h, w)}}"
            )
        node = nngraph.inputs(self.name(blob))
        self.inputs[blob] = node, shape
        self.write(blob, Value(node, shape, ((1.0, 0.0), (1.0, 0.0))))

    def name(self, wanted):
        """A name of its own for a node; dots are for names inside of modules."""
        base = name = wanted.replace(".", "_") or "layer"
        count = 1
        while name in self.names:
            count += 1
            name = f"{base}_{count}"
        self.names.add(name)
        return name

    def write(self, blob, value):
        """The blob of that name is now this value."""
        self.values[blob] = value
        self.aliases[blob] = value.node
        self.left_off.pop(blob, None)
        self.unread.pop(blob, None)
        self.unread[blob] = True

    def add(self, options, later):
        """Wire one layer. later: the layers that come after it."""
        layer = Layer(options, self.phase)
        if layer.type in INPUTS | DATA:
            return self.data(layer)
        if layer.type not in readers.keys() | LOSSES | {"Silence", "SILENCE", "Split", "SPLIT"}:
            raise layer.error(
                "this type of layer cannot be read; flambeau.zoo.caffe_registry.reads adds a reader"
            )
        if self.leave_off(layer):
            return None
        for blob in options.bottom:
            if blob not in self.values and blob in self.shapes:
                self.input(blob, None)
            if blob not in self.values:
                writers = [repr(other.name) for other in later if blob in other.top]
                hint = f"{', '.join(writers)} would, but later"
                if not writers:
                    hint = f"if it is an input, load it with shapes={{{blob!r}: (n, c, h, w)}}"
                raise layer.error(f"no layer before it writes its bottom {blob!r}; {hint}")
        bottoms = [self.values[blob] for blob in options.bottom]
        for blob in options.bottom:
            self.unread.pop(blob, None)
        if layer.type in ("Split", "SPLIT"):
            layer.need(len(bottoms) == 1, "it must have one bottom")
            return [self.write(blob, bottoms[0]) for blob in options.top]
        if layer.type not in ("Silence", "SILENCE"):
            self.wire(layer, bottoms)
        return None

    def data(self, layer):
        """A layer that reads data: its tops are inputs, or labels."""
        for i, blob in enumerate(layer.options.top):
            if i and layer.type in DATA:
                self.left_off[blob] = f"the labels of {layer.name!r}"
            else:
                self.input(blob, input_shape(layer, i))

    def leave_off(self, layer):
        """True for a layer that needs labels: it has no part in what the network computes."""
        options = layer.options
        hanging = [blob for blob in options.bottom if blob in self.left_off]
        if layer.type not in LOSSES and not hanging:
            return False
        if layer.type not in LOSSES and len(hanging) < len(options.bottom):
            why = self.left_off[hanging[0]]
            raise layer.error(f"its bottom {hanging[0]!r} is {why}, which the graph does not have")
        for blob in options.top:
            self.left_off[blob] = f"computed from labels by {layer.name!r}"
        layer.note("is left off: it needs labels")
        self.notes += layer.notes
        return True

    def wire(self, layer, bottoms):
        """Make the modules of a layer and the values of its tops."""
        read, count = readers[layer.type]
        fits = len(bottoms) == count if count else bottoms
        layer.need(fits, f"it must have {count or 'a'} bottom, not {len(bottoms)}")
        layer.need(layer.n_tops > 0, "it must have a top")
        layer.grids = [value.grid for value in bottoms]
        layer.grid = layer.grids[0]
        try:
            made, shape = read(layer, *(value.shape for value in bottoms))
        except FormatError:
            raise
        except ValueError as error:  # what our layers do not take
            raise layer.error(str(error)) from error
        *before, module = made if isinstance(made, tuple) else (made,)
        nodes = [value.node for value in bottoms]
        for step in before:
            name = self.name(f"{layer.name}_{type(step).__name__.lower()}")
            nodes = [step(*nodes, name=name)]
        node = module(*nodes, name=self.name(layer.name))
        shapes = shape if isinstance(shape, list) else [shape]
        parts = [node[i] for i in range(len(shapes))] if isinstance(shape, list) else [node]
        layer.need(len(parts) == layer.n_tops, f"it must have {len(parts)} top")
        for blob, part, shape in zip(layer.options.top, parts, shapes, strict=True):
            self.write(blob, Value(part, shape, layer.grid))
        self.aliases.setdefault(layer.name, node)
        self.layers.append((layer, module))
        self.notes += layer.notes

    def graph(self):
        """The graph of all that was wired: its outputs are the blobs that no layer reads."""
        given = {id(node) for node, _ in self.inputs.values()}
        outputs = [self.values[blob].node for blob in self.unread]
        outputs = [node for node in outputs if id(node) not in given]
        if not outputs:
            raise FormatError("the file has no layer that computes an output")
        needed = _vertices(outputs)
        for blob in [blob for blob, (node, _) in self.inputs.items() if id(node) not in needed]:
            self.notes.append(f"input {blob!r} is left off: no output depends on it")
            del self.inputs[blob]
        aliases = {blob: node for blob, node in self.aliases.items() if id(node.vertex) in needed}
        graph = nngraph.Graph([node for node, _ in self.inputs.values()], outputs, aliases)
        graph.input_shapes = {blob: shape for blob, (_, shape) in self.inputs.items()}
        graph.notes = self.notes
        return graph


def _vertices(outputs):
    """The identities of all nodes that the outputs depend on."""
    found, todo = set(), [node.vertex for node in outputs]
    while todo:
        vertex = todo.pop()
        if id(vertex) not in found:
            found.add(id(vertex))
            todo += [parent.vertex for parent in vertex.parents]
    return found


def input_shape(layer, index):
    """The shape of a top of a layer that reads data, as far as the file tells; else None."""
    options, kind = layer.options, layer.type
    if kind == "Input":
        return _one_of(layer, [tuple(s.dim) for s in options.input_param.shape], index)
    if kind in ("DummyData", "DUMMY_DATA"):
        dummy = options.dummy_data_param
        if dummy.shape:
            return _one_of(layer, [tuple(s.dim) for s in dummy.shape], index)
        axes = dummy.num, dummy.channels, dummy.height, dummy.width
        return tuple(_one_of(layer, axis, index) for axis in axes) if all(axes) else None
    if kind in ("MemoryData", "MEMORY_DATA"):
        memory = options.memory_data_param
        return memory.batch_size, memory.channels, memory.height, memory.width
    image = options.image_data_param
    data = image if kind in ("ImageData", "IMAGE_DATA") else options.data_param
    crop = options.transform_param.crop_size or data.crop_size
    size = (crop, crop) if crop else (image.new_height, image.new_width)
    gray = options.transform_param.force_gray or not image.is_color
    return (data.batch_size or 1, 1 if gray else 3, *size) if all(size) else None


def _one_of(layer, given, index):
    """What is given for each top, or once for all."""
    fits = len(given) in (0, 1, layer.n_tops)
    layer.need(fits, f"{len(given)} shapes are given for {layer.n_tops} tops")
    return given[index if len(given) > 1 else 0] if given else None
