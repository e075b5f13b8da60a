"""The bare tensors of a file in any format, which is found by its content and not by its name."""

import io
import os
import re
import zipfile

from flambeau.zoo.errors import FormatError

FORMATS = "PyTorch, safetensors, HDF5, Keras, Caffe, Torch7 and ONNX"
HDF5 = b"\x89HDF\r\n\x1a\n"
KERAS = {"model_config", "keras_version", "layer_names"}
# first fields of an ONNX model: after its version, one of producer, domain, doc, graph, opset …
ONNX = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]", re.DOTALL)
TORCH7_TEXT = re.compile(rb"[34]\n1\n\d+\n")
HINTS = {
    rb"version https://git-lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    rb"\x1f\x8b": "is packed with gzip: unpack it first",
    rb"BZh": "is packed with bzip2: unpack it first",
    rb"\xfd7zXZ": "is packed with xz: unpack it first",
    rb"PK\x03\x04": "is a zip archive, but not PyTorch's or Keras's",
    rb"\x93NUMPY": "is a NumPy array: numpy.load reads it",
    rb"(?i)\s*<(!doctype|html|\?xml)": "is a web page: perhaps a download that failed",
}


def read(path):
    """A dict of arrays by name, from a file in any format that has tensors by name.

    path: of a PyTorch, safetensors, HDF5, Keras or Caffe file.
    Raises FormatError when the file is damaged, of no known format, or has no tensors by name.
    """
    name, form = os.path.basename(path), kind(path)
    if form == "prototxt":
        raise FormatError(f"{name} describes a network and has no weights: read its .caffemodel")
    if form in ("torch7", "onnx"):
        raise FormatError(
            f"{name} is a whole network, not tensors by name: zoo.load(path).state_dict() has them"
        )
    if form == "keras" and zipfile.is_zipfile(path):
        return _keras_archive(path)
    if form == "pytorch":
        from flambeau.zoo import pytorch as reader
    elif form == "safetensors":
        from flambeau.zoo import safetensors as reader
    elif form == "caffe":
        from flambeau.zoo import caffe as reader
    else:
        from flambeau.zoo import hdf5 as reader
    return reader.read(path)


def kind(path):
    """The format of a file.

    path -> "pytorch", "safetensors", "hdf5", "keras", "caffe", "prototxt", "torch7" or "onnx".
    Raises FormatError when it is none of these, and says what it is instead where that is plain.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(65536)
    found = _binary(path, head, size) or _torch7(head, size) or _network(head)
    if found:
        return found
    told = next((said for start, said in HINTS.items() if re.match(start, head)), None)
    told = told or ("is empty" if not size else f"is in no format that flambeau reads ({FORMATS})")
    raise FormatError(f"{os.path.basename(path)} {told}")


def _binary(path, head, size):
    """Formats that begin with a signature."""
    if head.startswith(b"PK\3\4"):
        return _archive(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return "pytorch"
    if head[257:262] == b"ustar" and head[:7] in (b"sys_inf", b"pickle\0", b"storage", b"tensors"):
        return "pytorch"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    if any(head[at : at + 8] == HDF5 for at in (0, 512, 1024, 2048, 4096, 8192)):
        return _hdf5(path)
    return None


def _archive(path):
    """A zip archive: PyTorch's has data.pkl; one with a broken directory may be PyTorch's."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.split("/")[-1] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "pytorch"
    if "data.pkl" in names:
        return "pytorch"
    return "keras" if {"config.json", "model.weights.h5"} <= names else None


def _keras_archive(path):
    """The weights of a `.keras` file: an HDF5 file in a zip archive."""
    from flambeau.zoo import hdf5
    from flambeau.zoo.pytorch import Archive

    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            raw = Archive(file, size, "model.weights.h5").read("model.weights.h5")
        except FormatError as error:
            raise FormatError(f"{os.path.basename(path)} {error}") from None
    return hdf5.read(io.BytesIO(raw))


def _hdf5(path):
    """Keras marks its files by attributes, or (version 3) by a group "vars" for each layer."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            keras = KERAS & set(file.attrs) or file.visit(
                lambda name: name.endswith("/vars") or None
            )
    except (OSError, RuntimeError, LookupError, ValueError):
        return "hdf5"  # damaged: its reader says how
    return "keras" if keras else "hdf5"


def _torch7(head, size):
    """No signature: an object or table of index 1, or one bare number, text or truth value."""
    tag, *rest = (int.from_bytes(head[at : at + 4], "little") for at in (0, 4, 8))
    if tag == 4 and rest[0] == 1 and (head[12:14] == b"V " or rest[1] <= len(head) - 12):
        found = head[12 : 12 + rest[1]].isascii() and 0 < rest[1] < 200
    elif tag == 3:
        found = rest[0] == 1 and rest[1] * 8 <= size
    elif tag in (7, 8):
        found = rest[0] == 1 and rest[1] <= size or head[8:13] == b"\x1bLua"
    else:
        found = (tag, size) in ((1, 12), (5, 8)) or (tag == 2 and size == 8 + rest[0])
        found = found and len(head) >= 8
    return "torch7" if found or TORCH7_TEXT.match(head) else None


def _network(head):
    if ONNX.match(head):
        return "onnx"
    if not head:
        return None
    from flambeau.zoo import caffe

    if not caffe.matches(head):
        return None
    text = not re.search(rb"[\x00-\x08\x0e-\x1f]", head)
    return "prototxt" if text else "caffe"
