"""Features of any number of images, streamed to an HDF5 file."""

import json
import math
import os
import shutil
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flambeau.zoo.classification import batches
from flambeau.zoo.errors import FormatError

try:
    import fcntl
except ImportError:  # Windows: two runs at once are not told from each other
    fcntl = None

CHUNK = 1 << 24  # bytes that are copied at a time


@dataclass
class Report:
    """What was done: images in the file, those new in it, those left out and why."""

    total: int = 0
    new: int = 0
    shape: tuple = ()
    skipped: list = field(default_factory=list)


def extract(network, folder, output, layer=None, batch=16, progress=None):
    """Write the value of a layer for every image under a folder to an HDF5 file.

    network: with `preprocessing`; layer: the name of an inner value, None for the output.
    The file holds `features` (images, *shape) float32 and `paths`, relative to the folder; its
    attributes name the network and the layer. It is there when it is whole, and not before.
    Hidden files and folders are passed over. progress: a bar; None: on a terminal only.

    Images that are done lie in `.<output>.part` meanwhile, so that an interrupted run continues
    when it is started again; an output that is there already is added to. Returns a Report; a
    file that is no image is in `report.skipped`. Raises ValueError when what is there belongs to
    another network, layer or folder, FormatError when it is not such a file.
    """
    folder, output = Path(folder).resolve(), Path(output).resolve()
    if not folder.is_dir():
        raise ValueError(f"features: {folder} is no folder")
    inner = _inner(network, layer)
    key = _key(network, inner, layer, folder)
    stored = _stored(output, key)
    found = [path for path in _files(folder) if path != output]
    with Journal(output, key) as journal:
        done = {*stored, *journal.names}
        todo = [path for path in found if _relative(path, folder) not in done]
        report = Report(shape=tuple(key["shape"]))
        bar = _bar(len(found), len(found) - len(todo), progress)
        for group, x, failures in batches(network.preprocessing, todo, batch):
            report.skipped += [(str(path), failures[path]) for path in failures]
            if x is not None:
                names = [_relative(path, folder) for path in group if path not in failures]
                journal.add(names, inner(x))
            bar.update(len(group))
        bar.close()
        report.new = journal.finish(set(stored))
    report.total = len(stored) + report.new
    if not report.total:
        raise ValueError(
            f"features: none of the {len(found)} files in {folder} is an image, so {output} was "
            "not written"
        )
    return report


def _inner(network, layer):
    """The network up to a layer, in evaluation."""
    if layer is None:
        return network.eval()
    try:
        return network.until(layer).eval()
    except KeyError as error:
        raise ValueError(f"features: {error.args[0]}") from error


def _key(network, inner, layer, folder):
    """What must be the same for features to be put into one file."""
    y = inner(np.zeros((1, 3, *network.preprocessing.size), np.float32))
    if isinstance(y, tuple):
        raise ValueError(f"features: {layer or 'the output'} is {len(y)} arrays: name one of them")
    weights = 0
    for array in network.state_dict().values():
        weights = zlib.crc32(np.ascontiguousarray(array), weights)
    return {
        "network": str(network.name),
        "weights": f"{weights:08x}",
        "layer": layer or "",
        "preprocessing": repr(network.preprocessing),
        "folder": ascii(str(folder)),
        "shape": list(y.shape[1:]),
    }


class Journal:
    """The rows that are done, beside the output until all of them are; whole whenever it is killed.

    `values` has one row of float32 after another; `index` a line of JSON, the key, and then one
    for the path of each row. Values reach the disk before their paths do, so whatever lies behind
    the last whole line is cut off.
    """

    def __init__(self, output, key):
        self.output, self.key = output, key
        self.folder = output.with_name(f".{output.name}.part")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.index = open(self.folder / "index", "a+b")
        try:
            self._begin()
        except BaseException:
            self.index.close()
            raise

    def _begin(self):
        """Take up what an interrupted run has left."""
        if fcntl:
            try:
                fcntl.flock(self.index, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"features: another run is writing {self.output}") from error
        self.index.seek(0)
        lines = self.index.read().split(b"\n")[:-1]  # what has no line end was cut short
        if lines:
            _same(json.loads(lines[0]), self.key, self.folder)
        self.names = [json.loads(line) for line in lines[1:]]
        self.index.truncate(sum(len(line) + 1 for line in lines))
        self.values = open(self.folder / "values", "a+b")
        self.values.truncate(len(self.names) * 4 * math.prod(self.key["shape"]))
        if not lines:
            self._lines([self.key])

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.index.close()
        self.values.close()
        if not self.names and self.folder.exists():
            shutil.rmtree(self.folder)

    def add(self, names, values):
        """Keep some rows."""
        self.values.write(np.ascontiguousarray(values, np.float32))
        _flush(self.values)
        self._lines(names)
        self.names += names

    def _lines(self, values):
        self.index.write(b"".join(json.dumps(value).encode() + b"\n" for value in values))
        _flush(self.index)

    def finish(self, stored):
        """Write the output: the rows that it has, and those here that are not among them.

        Returns the number of the latter.
        """
        rows = [row for row, name in enumerate(self.names) if name not in stored]
        if rows:
            whole = self.folder / "whole.h5"
            self._fill(whole, rows)
            os.replace(whole, self.output)
        shutil.rmtree(self.folder)
        return len(rows)

    def _fill(self, whole, rows):
        import h5py

        shape = self.key["shape"]
        values = np.memmap(self.values, np.float32, "r", shape=(len(self.names), *shape))
        with _Old(self.output) as old, h5py.File(whole, "w") as new:
            new.attrs.update({name: v for name, v in self.key.items() if name != "shape"})
            names = [self.names[row].encode(errors="surrogateescape") for row in rows]
            new["paths"] = np.array(old.paths + names, h5py.string_dtype())
            total = len(old.paths) + len(rows)
            target = new.create_dataset("features", (total, *shape), np.float32)
            step = max(1, CHUNK // (4 * math.prod(shape)))
            for start in range(0, len(old.paths), step):
                stop = min(start + step, len(old.paths))
                target[start:stop] = old.features[start:stop]
            for start in range(0, len(rows), step):
                chosen = rows[start : start + step]
                place = len(old.paths) + start
                target[place : place + len(chosen)] = values[chosen]
        with open(whole, "rb+") as file:
            os.fsync(file.fileno())  # the name must not reach the disk before the bytes


class _Old:
    """The output as it was before: its paths, as bytes, and features; none where there is none."""

    def __init__(self, path):
        self.path, self.file, self.paths = path, None, []

    def __enter__(self):
        import h5py

        if self.path.exists():
            self.file = h5py.File(self.path, "r")
            self.paths, self.features = self.file["paths"][:].tolist(), self.file["features"]
        return self

    def __exit__(self, *error):
        if self.file:
            self.file.close()


def _stored(output, key):
    """The images that the output holds already."""
    try:
        with _Old(output) as old:
            if old.file is None:
                return []
            there = {name: old.file.attrs.get(name) for name in key}
            _same(there | {"shape": list(old.features.shape[1:])}, key, output)
            return [path.decode(errors="surrogateescape") for path in old.paths]
    except (OSError, KeyError) as error:
        raise FormatError(
            f"features: {output} is there, and was not written by this command: take another "
            "output, or remove it"
        ) from error


def _same(there, key, where):
    different = [f"{k} {there.get(k)}, not {v}" for k, v in key.items() if there.get(k) != v]
    if different:
        raise ValueError(
            f"features: {where} is there, and is of {'; '.join(different)}: take another output, "
            "or remove it"
        )


def _flush(file):
    file.flush()
    os.fsync(file.fileno())


def _files(folder):
    """All files under a folder, sorted, without hidden ones."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [p for p in found if not any(q.startswith(".") for q in p.relative_to(folder).parts)]


def _relative(path, folder):
    return path.relative_to(folder).as_posix()


def _bar(total, start, progress):
    """A progress bar, on a terminal only unless asked for."""
    import tqdm

    shown = sys.stderr.isatty() if progress is None else progress
    return tqdm.tqdm(total=total, initial=start, unit="image", disable=not shown)
