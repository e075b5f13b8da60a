"""From a name or files to a network that is ready to run."""

import dataclasses
import os
from pathlib import Path

from flambeau import nn
from flambeau.zoo import index
from flambeau.zoo.errors import FormatError
from flambeau.zoo.preprocessing import Preprocessing
from flambeau.zoo.read import kind, read


def load(source, *more, model=None):
    """A trained network, in evaluation: by a name of the index, or from files of any format.

    load("efficientnet-lite0")                    a name of `zoo.list()`
    load("net.prototxt", "net.caffemodel")        Caffe, in any order; the prototxt alone gives the
                                                  architecture with fresh weights
    load("resnet50.pth"), load("x.safetensors")   PyTorch's names: the architecture is recognised
    load("mine.pth", model=network)               … or given: a Module, or ("resnet", 50)
    load("trained.h5")                            what nn.save or zoo.save wrote

    The network has the attributes `name`, `preprocessing` (from images to its input) and `labels`
    (of its outputs); the last two are None where the files say nothing about them.
    Raises FormatError for files that cannot be read or do not fit, ValueError for an unknown name.
    """
    paths = [os.fspath(path) for path in (source, *more)]
    if not more and _is_name(source):
        return _from_index(index.get(source))
    for path in paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"zoo.load: there is no file {path!r}")
    return _describe(_from_files(paths, model).eval(), Path(paths[0]).stem)


def save(network, path):
    """Write a network with its preprocessing and labels to one HDF5 file; `load(path)` reads it."""
    preprocessing = getattr(network, "preprocessing", None)
    about = {
        "name": getattr(network, "name", None),
        "labels": getattr(network, "labels", None),
        "preprocessing": preprocessing and dataclasses.asdict(preprocessing),
    }
    network.save(path, about)


def _is_name(source):
    """Names of the index look like no path, and a file of that name comes first."""
    return isinstance(source, str) and not os.path.exists(source) and not Path(source).suffix


def _describe(network, name, preprocessing=None, labels=None):
    """Attach what is known about a network, where it is not known already."""
    for key, value in (("name", name), ("preprocessing", preprocessing), ("labels", labels)):
        if vars(network).get(key) is None:
            setattr(network, key, value)
    return network


def _from_index(entry):
    from flambeau.zoo import fetch

    paths = [os.fspath(path) for path in fetch.files(entry).values()]
    network = _from_files(paths, entry.variant)
    return _describe(network.eval(), entry.name, entry.preprocessing, index.labels(entry.labels))


def _from_files(paths, model):
    """The network of these files, by their formats."""
    formats = {kind(path): path for path in paths}
    if set(formats) <= {"prototxt", "caffe"} and len(formats) == len(paths):
        return _from_caffe(formats.get("prototxt"), formats.get("caffe"))
    if len(paths) > 1:
        raise ValueError(
            "zoo.load: several files must be a prototxt and a caffemodel — got "
            + ", ".join(f"{path} ({kind(path)})" for path in paths)
        )
    if "hdf5" in formats and nn.saving.is_saved(paths[0]):
        return _from_saved(paths[0])
    if formats.keys() & {"torch7", "onnx"}:
        raise FormatError(f"{paths[0]} is a {kind(paths[0])} network, which cannot be loaded yet")
    return _from_tensors(paths[0], model)


def _from_caffe(prototxt, caffemodel):
    from flambeau.zoo import caffe

    if prototxt is None:
        raise FormatError(
            f"{caffemodel} holds weights by layer; the structure is in the prototxt: "
            "zoo.load(prototxt, caffemodel), or zoo.read(caffemodel) for the arrays"
        )
    return caffe.load(prototxt, caffemodel)


def _from_saved(path):
    network = nn.load(path)
    about = network.about or {}
    options = about.get("preprocessing")
    preprocessing = Preprocessing(**options) if options else None
    return _describe(network, about.get("name"), preprocessing, about.get("labels"))


def _from_tensors(path, model):
    """A network with the tensors of a file; the architecture is given, or recognised by names."""
    from flambeau.zoo import models

    tensors = read(path)
    if model is None:
        model = models.recognize(tensors)
        if model is None:
            raise FormatError(
                f"{path} holds {len(tensors)} tensors ({', '.join(list(tensors)[:3])}, …) of no "
                "network in zoo.models; zoo.load(path, model=network) fills a network of yours, "
                "zoo.read(path) gives the tensors"
            )
    elif not isinstance(model, nn.Module):
        with nn.init.skipped():
            model = models.build(model)
    return model.load_state_dict(tensors)
