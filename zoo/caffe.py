"""Caffe's files: networks in prototxt, weights in caffemodel, of both formats (V1 and V2)."""

import codecs
import contextlib
import math
import re
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from flambeau.nn import init
from flambeau.zoo import caffe_graph, caffe_layers, caffe_neurons, caffe_pb2, caffe_tables
from flambeau.zoo.caffe_registry import fill, state
from flambeau.zoo.errors import FormatError

READERS = caffe_layers, caffe_neurons, caffe_tables  # their functions register themselves
V1_FIELDS = {0x0A, 0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A}  # what a V1 layer's bytes may begin with
TEXT = re.compile(  # how a prototxt begins; a solver's or another system's text begins otherwise
    rb"""\s*((name|input)\s*:\s*["']|input_dim\s*:|force_backward\s*:|(input_shape|state|layers?)\s*:?\s*{)"""
)


def matches(head):
    """Whether a file that begins with the bytes `head` is one of Caffe's networks.

    >>> matches(b'name: "LeNet"\\nlayer { name: "conv1" type: "Convolution" }')
    True
    """
    if not _is_text(head):
        return _is_binary_net(head)
    bare = re.sub(rb"#[^\n]*", b"", head.removeprefix(codecs.BOM_UTF8))
    return bool(TEXT.match(bare) and re.search(rb"\b(layers?\s*:?\s*{|input\s*:)", bare))


def _is_text(head):
    return not re.search(rb"[\x00-\x08\x0e-\x1f]", head[:4096])


def _is_binary_net(head):
    """Walks the fields of a NetParameter until a layer begins."""
    at = 0
    while at < len(head):
        tag, at = _varint(head, at)
        value, start = _varint(head, at)
        if tag == 802:  # layer = 100
            return head[start : start + 1] in (b"\x0a", b"\x12")
        if tag == 18:  # layers = 2
            return head[start : start + 1] != b"" and head[start] in V1_FIELDS
        if tag == 10 and not _is_text(head[start : start + value]):  # name = 1
            return False
        if tag not in (10, 26, 32, 34, 40, 50, 56, 66):  # name, input, input_dim, …, input_shape
            return False
        at = start if tag in (32, 40, 56) else start + value
    return False


def _varint(data, at):
    """A number of variable length and where it ends."""
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            break
    return value, at


def read(path):
    """The weights of a file by layer and position: {"conv1.0": array, "conv1.1": array}.

    Shapes are those in the file: old ones have four axes, whatever the layer.
    Raises FormatError when it is damaged, is no network of Caffe's or holds no weights.
    """
    blobs = stored(path)
    if not blobs:
        raise FormatError(f"{path}: a network without weights: it holds the architecture only")
    return {f"{name}.{i}": array for name, found in blobs.items() for i, array in enumerate(found)}


def load(prototxt=None, caffemodel=None, *, shapes=None, phase="TEST", strict=True):
    """The network of a prototxt as a graph, with the weights of a caffemodel where one is given.

    Modules bear Caffe's layer names and inner values its blob names: `net.until("pool5")`. Where
    layers work in place, a blob name is what the last of them wrote, as in Caffe's own net.blobs.
    Without a prototxt the architecture is the one that the caffemodel itself holds.

    shapes: {input: shape}, for files that do not tell them, or in place of theirs. A blob that no
    layer writes becomes an input so.
    phase: "TEST" or "TRAIN": which layers take part; the network is in that mode.
    strict: every layer with weights must be in the caffemodel; False: those that are not keep
    fresh weights, and `notes` says which. Layers of the caffemodel that the prototxt does not
    have are passed over, as in Caffe, and noted.

    The graph has `name`, `input_shapes` and `notes`. Networks expect what they were trained on,
    mostly BGR from 0 to 255 less a mean. Fillers are not read: fresh weights are our layers' own.
    Raises FormatError for damaged files, layers that cannot be read, and weights that do not fit.
    """
    if prototxt is None and caffemodel is None:
        raise TypeError("caffe.load: needs a prototxt, a caffemodel or both")
    if phase not in ("TEST", "TRAIN"):
        raise ValueError(f"caffe.load: phase must be 'TEST' or 'TRAIN', not {phase!r}")
    path = caffemodel if prototxt is None else prototxt
    blobs = None if caffemodel is None else stored(caffemodel)
    # weights that the file must bring need no values of their own
    with init.skipped() if blobs is not None and strict else contextlib.nullcontext():
        try:
            graph, layers = _wire(_parse(path), shapes or {}, phase)
        except FormatError as error:
            raise FormatError(f"{path}: {error}") from error
    if blobs is not None:
        try:
            _fill(layers, blobs, strict, graph.notes)
        except FormatError as error:
            raise FormatError(f"{caffemodel}: {error}") from error
    return graph.train(phase == "TRAIN")


def _wire(net, shapes, phase):
    """The graph of a NetParameter and its (layer, module) pairs."""
    layers = _layers(net, phase)
    wiring = caffe_graph.Wiring(shapes, phase)
    for blob, shape in _inputs(net):
        wiring.input(blob, shape)
    for i, layer in enumerate(layers):
        wiring.add(layer, layers[i + 1 :])
    unknown = ", ".join(shapes.keys() - wiring.inputs.keys())
    if unknown:
        names = ", ".join(wiring.inputs)
        raise ValueError(f"caffe.load: shapes has {unknown}; the inputs are {names}")
    _share(wiring.layers)
    graph = wiring.graph()
    graph.name = net.name or None
    return graph, wiring.layers


def _inputs(net):
    """The inputs that are given before the layers, as (blob, shape or None)."""
    shapes = [tuple(shape.dim) for shape in net.input_shape]
    if not shapes:
        shapes = [tuple(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
    if shapes and (len(shapes) != len(net.input) or len(net.input_dim) % 4):
        raise FormatError(f"{len(net.input)} inputs have shapes {shapes}: they must be as many")
    return zip(net.input, shapes or [None] * len(net.input), strict=True)


def _layers(net, phase):
    """The layers of either format that take part in a phase, as LayerParameters."""
    if net.layer and net.layers:
        raise FormatError("it has layers of both formats, layer { } and layers { }: keep one")
    state = net.state
    state.phase = caffe_pb2.Phase.Value(phase)
    layers = list(net.layer) or [_upgraded(layer) for layer in net.layers]
    return [layer for layer in layers if _takes_part(layer, state)]


def _upgraded(old):
    """A V1 layer as a V2 layer that keeps its old type: fields are called alike in both."""
    if old.HasField("layer"):
        raise FormatError(
            "its layers are of the oldest format (V0): convert it with Caffe's upgrade_net_proto "
            "tools first"
        )
    new = caffe_pb2.LayerParameter(name=old.name, type=old.LayerType.Name(old.type))
    new.param.extend(caffe_pb2.ParamSpec(name=name) for name in old.param)
    for field, value in old.ListFields():
        if field.name in ("bottom", "top", "include", "exclude"):
            getattr(new, field.name).extend(value)
        elif field.name not in ("name", "type", "blobs", "param"):
            getattr(new, field.name).CopyFrom(value)
    return new


def _takes_part(layer, state):
    if layer.include:
        return any(_meets(rule, state) for rule in layer.include)
    return not any(_meets(rule, state) for rule in layer.exclude)


def _meets(rule, state):
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and set(rule.stage) <= set(state.stage)
        and not set(rule.not_stage) & set(state.stage)
    )


def _share(layers):
    """Parameters of one name, as in param { name: "w" }, are one array."""
    owners = {}
    for layer, module in layers:
        for spec, name in zip(layer.options.param, state(module), strict=False):
            if not spec.name:
                continue
            owner, first = owners.setdefault(spec.name, (module, name))
            theirs, mine = getattr(owner, first), getattr(module, name)
            if first != name or mine.shape != theirs.shape:
                raise layer.error(
                    f"its {name} {mine.shape} cannot be the parameter {spec.name!r}, which is "
                    f"the {first} {theirs.shape} of another layer"
                )
            if mine is not theirs:
                module.share(owner, name)


def _fill(layers, blobs, strict, notes):
    missing = []
    for layer, module in layers:
        if layer.name in blobs:
            fill(layer, module, blobs[layer.name])
        elif state(module):
            missing.append(layer.name)
    names = ", ".join(missing)
    if missing and strict:
        raise FormatError(f"it has no weights for {names}; strict=False gives them fresh ones")
    if missing:
        notes.append(f"not in the caffemodel, fresh weights: {names}")
    unused = ", ".join(blobs.keys() - {layer.name for layer, _ in layers})
    if unused:
        notes.append(f"weights in the caffemodel that no layer asks for: {unused}")


# ---- the files


def _parse(path, kind=caffe_pb2.NetParameter):
    """The message in a file, text or binary."""
    data = Path(path).read_bytes()
    if not data:
        raise FormatError("the file is empty")
    try:
        if _is_text(data):
            text = data.decode("utf-8-sig", "replace")
            net = text_format.Parse(text, caffe_pb2.NetParameter(), allow_unknown_field=True)
        else:
            net = kind.FromString(data)
        found = [layer.name for layer in (*net.layer, *net.layers)]
    except (DecodeError, text_format.ParseError, UnicodeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FormatError(f"damaged, or no network of Caffe's ({reason})") from error
    if not found:
        raise FormatError("no network of Caffe's: it has no layers")
    return net


def stored(path):
    """The weights in a file: {layer: [array, …]}, in the shapes that it gives them."""
    try:
        net = _parse(path, caffe_pb2.PackedNet)
        layers = [layer for layer in (*net.layers, *net.layer) if layer.blobs]
        return {layer.name: [_array(blob, layer.name) for blob in layer.blobs] for layer in layers}
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error


def _array(blob, layer):
    """A blob as an array: numbers are float32, or float64 where the file has them so."""
    if isinstance(blob, caffe_pb2.PackedBlob) and not (blob.data or blob.double_data):
        # not packed: each number is a field of its own
        blob = caffe_pb2.BlobProto.FromString(blob.SerializeToString())
    given, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
    if isinstance(blob, caffe_pb2.PackedBlob):
        data = bytearray().join(given)
        values = np.frombuffer(data, dtype, len(data) // np.dtype(dtype).itemsize)
    else:
        values = np.array(given, dtype)
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    elif any(map(blob.HasField, ("num", "channels", "height", "width"))):
        shape = blob.num, blob.channels, blob.height, blob.width
    else:
        shape = values.shape
    if min(shape, default=1) < 0 or math.prod(shape) != values.size:
        raise FormatError(
            f"layer {layer!r}: a blob of shape {shape} must hold {math.prod(shape)} numbers — it "
            f"holds {values.size}"
        )
    return values.reshape(shape)
