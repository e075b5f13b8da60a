"""PyTorch's `.pth`, `.pt` and `.th` files, read without PyTorch and without running them.

Two containers, both around one pickle (torch/serialization.py): a zip archive with `data.pkl` and
one entry a storage, or, before PyTorch 1.6, five pickles and then the storages, one after another.
Tensors are views of their storages, so that what was shared in PyTorch is shared here.
"""

import io
import mmap
import os
import struct
import zipfile
import zlib

import numpy as np

from flambeau.zoo.errors import FormatError
from flambeau.zoo.pytorch_pickle import TensorUnpickler
from flambeau.zoo.unpickle import Record, shown

MAGIC = 0x1950A86A20F9469CFC6C
RATIO = 100  # a compressed entry may unpack to this many times its size
WRAPPERS = "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module"
ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,  # a seek to before the file
    RuntimeError,  # among them NotImplementedError: an unknown compression
    ValueError,
)


class Archive:
    """The zip container: entries by name, under the prefix that stands before `pickle`."""

    def __init__(self, file, size, pickle="data.pkl"):
        self.file = file
        try:
            self.zip = zipfile.ZipFile(file)
        except ZIP_ERRORS as error:
            raise FormatError(f"is a damaged zip archive: {shown(str(error))}") from None
        entries = self.zip.infolist()
        if sum(entry.compress_size for entry in entries) > size:
            raise FormatError("is a zip archive whose entries overlap")
        self.entries = {entry.filename: entry for entry in entries}
        pickles = [entry for entry in self.entries if entry.split("/")[-1] == pickle]
        if not pickles:
            raise FormatError(f"is a zip archive without {pickle}")
        self.prefix = min(pickles, key=lambda entry: entry.count("/"))[: -len(pickle)]

    def entry(self, key):
        """The entry's directory record, when its sizes can be true."""
        entry = self.entries.get(self.prefix + key)
        if entry is None:
            raise FormatError(f"has no entry {shown(self.prefix + key)}")
        packed = entry.compress_size * (RATIO if entry.compress_type else 1)
        if entry.file_size > packed or entry.flag_bits & 1:
            raise FormatError(
                f"has an entry {shown(key)} that is encrypted, or unpacks to over {RATIO} times "
                "its size"
            )
        return entry

    def reserve(self, key, nbytes):
        held = self.entry(f"data/{key}").file_size
        if held != nbytes:
            raise FormatError(f"has {held} bytes in storage {shown(key)}, which needs {nbytes}")

    def read(self, key, raw=None):
        """The bytes of an entry, in raw (uint8) where it is given."""
        entry = self.entry(key)
        raw = np.empty(entry.file_size, np.uint8) if raw is None else raw
        try:
            if entry.compress_type == zipfile.ZIP_STORED:
                right = self.read_stored(entry, raw)
            else:
                data = self.zip.read(entry)
                right = len(data) == raw.size
                raw[: len(data)] = np.frombuffer(data, np.uint8)
        except ZIP_ERRORS as error:
            raise FormatError(f"has a damaged entry {shown(key)}: {shown(str(error))}") from None
        if not right:
            raise FormatError(f"has a damaged entry {shown(key)}: its checksum or length is wrong")
        return raw

    def read_stored(self, entry, raw):
        """Straight into raw, without the copies and the pace of a compressed stream."""
        self.file.seek(entry.header_offset)
        head = self.file.read(30)
        names = struct.unpack("<HH", head[26:30])
        self.file.seek(entry.header_offset + 30 + sum(names))
        done = self.file.readinto(raw)
        # PyTorch may be told to write no checksums: they are 0 then
        whole = done == raw.size and entry.CRC in (0, zlib.crc32(raw))
        return whole and head[:4] == b"PK\3\4"


def read_zip(file, size):
    archive = Archive(file, size)
    unpickler = TensorUnpickler(size, archive.reserve)
    result = unpickler.load(io.BytesIO(archive.read("data.pkl").tobytes()))
    order = b"little"
    if archive.prefix + "byteorder" in archive.entries:
        order = archive.read("byteorder").tobytes()
    if order not in (b"little", b"big"):
        raise FormatError(f"has the byte order {shown(order)}")
    for key, storage in unpickler.storages.items():
        archive.read(f"data/{key}", storage.raw)
        storage.finish(order == b"big")
    return result


def read_legacy(file, size):
    """Pickles of the magic number, version, system, object and storage keys; then the storages.

    A file that is one pickle only, of arrays and plain data, gives that.
    """
    total = 0

    def reserve(key, nbytes):
        nonlocal total
        total += nbytes
        if total > size:
            raise FormatError(f"is cut short: its storages take {total} bytes, all of it {size}")

    unpickler = TensorUnpickler(size, reserve)
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        first = unpickler.load(stream)
        if type(first) is not int or first != MAGIC:
            if unpickler.storages:
                raise FormatError("refers to storages that it does not have")
            return first
        _, system, result, keys = (unpickler.load(stream) for _ in range(4))
        file.seek(stream.tell())
    swapped = isinstance(system, dict) and system.get("little_endian") is False
    fill_storages(file, keys, unpickler.storages, swapped)
    return result


def fill_storages(file, keys, storages, swapped):
    """The legacy container's storages in the order of keys: a count and the numbers of each."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise FormatError("has no list of its storages")
    if sorted(keys) != sorted(storages):
        raise FormatError("lists other storages than its tensors use")
    for key in keys:
        storage, head = storages[key], file.read(8)
        if len(head) < 8 or file.readinto(storage.raw) < storage.raw.size:
            raise FormatError(f"is cut short in storage {shown(key)}")
        if int.from_bytes(head, "big" if swapped else "little") != storage.count:
            raise FormatError(f"has a storage {shown(key)} that is not of {storage.count} numbers")
        storage.finish(swapped)


def checkpoint(path):
    """Everything that a PyTorch file holds: dicts, lists, numbers, texts, tensors as arrays.

    path: of a file by torch.save. bfloat16 becomes float32, exactly; GPU tensors become arrays.
    Raises FormatError when the file is damaged, or holds what is not plain data.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(262)
        file.seek(0)
        try:
            if not size:
                raise FormatError("is empty")
            if head[257:] == b"ustar":
                raise FormatError(
                    "is a tar archive, as PyTorch before 0.2 wrote; load it with PyTorch and save "
                    "it again"
                )
            return (read_zip if head[:4] == b"PK\3\4" else read_legacy)(file, size)
        except FormatError as error:
            raise FormatError(f"{os.path.basename(path)} {error}") from None


def read(path):
    """The state dict of a PyTorch file: a dict of arrays by name, in the file's order.

    Dicts around it ({"state_dict": …, "epoch": …}) are opened, `module.` (DataParallel) is taken
    off when every name has it, and a TorchScript archive gives its tensors by dotted name.

    path: of a file by torch.save(model.state_dict(), path), or of a checkpoint around it.
    Raises FormatError when the file is damaged, or holds no state dict.
    """
    name, found = os.path.basename(path), checkpoint(path)
    if isinstance(found, Record):
        found = flatten(found)
    for _ in WRAPPERS if isinstance(found, dict) else ():
        found = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), found)
    if not isinstance(found, dict):
        raise FormatError(f"{name} holds {shown(found)}, not a dict of tensors")
    for key, value in found.items():
        if not isinstance(key, str) or not is_tensor(value):
            raise FormatError(
                f"{name} has {shown(value)} under {shown(key)}, where a state dict has a tensor; "
                "zoo.pytorch.checkpoint(path) gives all that the file holds"
            )
    if all(key.startswith("module.") for key in found):
        found = {key.removeprefix("module."): value for key, value in found.items()}
    return {key: np.asarray(value) for key, value in found.items()}


def is_tensor(value):
    return isinstance(value, (np.ndarray, np.generic, float)) or (
        isinstance(value, int) and -(2**63) <= value < 2**63
    )


def flatten(script):
    """The tensors of a TorchScript module and its children, by dotted name."""
    found, todo, steps = {}, [("", script)], 0
    while todo:
        prefix, record = todo.pop()
        steps += len(record)
        if steps > 10**6 or len(prefix) > 1000:  # children may be shared, even in a circle
            raise FormatError("a TorchScript archive nests too deep, or without end")
        found |= {f"{prefix}{k}": v for k, v in record.items() if isinstance(v, np.ndarray)}
        children = [(f"{prefix}{k}.", v) for k, v in record.items() if isinstance(v, Record)]
        todo += reversed(children)
    return found
