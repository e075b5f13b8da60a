"""Features of any number of images, streamed to an HDF5 file."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from flambeau.zoo.classification import batches
from flambeau.zoo.errors import FormatError


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
    The file holds `features` (images, *shape) float32 and `paths`, relative to the folder, sorted;
    its attributes name the network and the layer. It is written beside its place and renamed.

    Finished batches lie in `<output>.parts` meanwhile, so that an interrupted run continues when
    it is started again; an output that is there already is added to. Returns a Report; a file
    that is no image is in `report.skipped`. Raises ValueError when what is there belongs to
    another network or layer, FormatError when it is not such a file.
    """
    folder, output = Path(folder), Path(output)
    if not folder.is_dir():
        raise ValueError(f"features: must be a folder of images — got {folder}")
    inner = network.until(layer) if layer else network
    key = {"network": str(network.name), "layer": layer or "", "folder": str(folder.resolve())}
    parts = Parts(output, key)
    done = parts.paths() | set(_stored(output, key))
    found = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder))
    todo = [p for p in found if _relative(p, folder) not in done and p != output]
    report = Report()
    bar = _bar(len(found), len(found) - len(todo), progress)
    inner.eval()
    for group, x, failures in batches(network.preprocessing, todo, batch):
        report.skipped += [(str(path), str(error)) for path, error in failures.items()]
        if x is not None:
            names = [_relative(path, folder) for path in group if path not in failures]
            parts.add(names, inner(x))
            report.new += len(names)
        bar.update(len(group))
    bar.close()
    report.total, report.shape = parts.merge()
    return report


class Parts:
    """Finished batches beside the output: one .npz each, whole or not there."""

    def __init__(self, output, key):
        self.output, self.key = output, key
        self.folder = output.with_name(output.name + ".parts")
        self.folder.mkdir(parents=True, exist_ok=True)
        about = self.folder / "about.json"
        if about.exists():
            _same(json.loads(about.read_text("utf-8")), key, self.folder)
        else:
            _write(about, lambda path: path.write_text(json.dumps(key), "utf-8"))
        self.files = sorted(self.folder.glob("*.npz"))

    def paths(self):
        """The images that are in finished batches."""
        return {name for file in self.files for name in np.load(file)["paths"].tolist()}

    def add(self, names, values):
        """Keep one batch."""
        last = int(self.files[-1].stem) if self.files else 0
        file = self.folder / f"{last + 1:08}.npz"
        values = np.ascontiguousarray(values, np.float32)
        _write(file, lambda path: np.savez(path, paths=np.array(names), features=values))
        self.files.append(file)

    def merge(self):
        """Put the batches, and what the output holds, into one file; (images, shape of one)."""
        import h5py

        places = sorted(
            [(name, file, row) for file in self.files for row, name in enumerate(_names(file))]
            + [(name, None, row) for row, name in enumerate(_stored(self.output, self.key))]
        )
        if not places:
            shutil.rmtree(self.folder)
            raise ValueError(f"features: no image was read, so {self.output} was not written")
        with _opened(self.output) as old:
            shape = _rows(places[0][1], old).shape[1:]
            _write(self.output, lambda path: self._fill(h5py, path, places, shape, old))
        shutil.rmtree(self.folder)
        return len(places), tuple(shape)

    def _fill(self, h5py, path, places, shape, old):
        with h5py.File(path, "w") as new:
            new.attrs.update(self.key)
            new["paths"] = [name for name, _, _ in places]
            target = new.create_dataset("features", (len(places), *shape), np.float32)
            current, rows = False, None
            for i, (_, file, row) in enumerate(places):
                if file != current:
                    current, rows = file, _rows(file, old)
                target[i] = rows[row]


def _names(file):
    return np.load(file)["paths"].tolist()


def _rows(file, old):
    """The features of one batch, or those of the output as it was."""
    return np.load(file)["features"] if file else old["features"]


class _opened:
    """The output as it was, open for reading; None where there is none."""

    def __init__(self, path):
        self.path, self.file = path, None

    def __enter__(self):
        import h5py

        if self.path.exists():
            self.file = h5py.File(self.path, "r")
        return self.file

    def __exit__(self, *error):
        if self.file:
            self.file.close()


def _stored(output, key):
    """The images that the output holds already, in order."""
    import h5py

    if not output.exists():
        return []
    try:
        with h5py.File(output, "r") as file:
            if not {"features", "paths"} <= set(file):
                raise FormatError(f"{output} is there, and is no file of features")
            _same({name: file.attrs.get(name) for name in key}, key, output)
            return [name.decode() for name in file["paths"][:].tolist()]
    except OSError as error:
        raise FormatError(f"{output} is there, and is no whole HDF5 file") from error


def _same(there, key, where):
    if there != key:
        different = [
            f"{k} {there.get(k)!r}, not {v!r}" for k, v in key.items() if there.get(k) != v
        ]
        raise ValueError(
            f"{where} is of {'; '.join(different)}: take another output, or remove this one"
        )


def _write(path, write):
    """Write a file under a temporary name and rename it when it is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _relative(path, folder):
    return path.relative_to(folder).as_posix()


def _hidden(path, folder):
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _bar(total, start, progress):
    """A progress bar, on a terminal only unless asked for."""
    import tqdm

    shown = sys.stderr.isatty() if progress is None else progress
    return tqdm.tqdm(total=total, initial=start, unit="image", disable=not shown)
