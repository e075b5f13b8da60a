"""The trained networks that are known by name: what they are, where their files lie."""

import difflib
import tomllib
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

from flambeau.zoo.preprocessing import Preprocessing


@dataclass(frozen=True)
class File:
    """One file of a trained network: its role, its source and the checksum that it must have.

    role: "weights", or "prototxt" and "caffemodel".
    url: where it lies; or package, the "name==version" of one that ships it, with its path inside.
    sha256, or the first digits of it where the publisher names no more; size in bytes.
    """

    role: str
    url: str | None = None
    package: str | None = None
    path: str | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None

    @property
    def name(self):
        """The name in the cache: the last part of the path or URL."""
        return (self.path or self.url).rsplit("/", 1)[-1]

    @property
    def source(self):
        """Where it comes from, for people."""
        return f"{self.path} of the package {self.package}" if self.package else self.url

    def fits(self, digest):
        """Whether a file whose sha256 is `digest` is this one."""
        return digest == self.sha256 if self.sha256 else digest.startswith(self.sha256_prefix)


@dataclass(frozen=True)
class Entry:
    """A trained network of the index.

    model, variant: its definition, a family of flambeau.zoo.models; or "caffe", None where a
        prototxt among the files defines it.
    preprocessing: what its input must go through.  labels: the names of its outputs, by name.
    files: what `flambeau.zoo.fetch.files` brings.

    >>> get("resnet18")
    <resnet18: ResNet-18; ImageNet 69.8 % top-1, BSD-3-Clause>
    """

    name: str
    description: str
    licence: str
    task: str
    model: str
    variant: str | None
    preprocessing: Preprocessing = field(repr=False)
    labels: str
    files: tuple[File, ...]

    def __repr__(self):
        return f"<{self.name}: {self.description}, {self.licence}>"


class Table(list):
    """A list of entries that prints as a table."""

    def __repr__(self):
        rows = [("name", "task", "licence", "description")]
        rows += [(e.name, e.task, e.licence, e.description) for e in self]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
        return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def list():
    """All entries: a list that prints as a table.

    >>> "resnet18" in [entry.name for entry in list()]
    True
    """
    return Table(_entries().values())


def get(name):
    """The entry of that name.

    Raises ValueError, with the names that come close, where there is none.

    >>> get("open-nsfw").model
    'caffe'
    """
    entries = _entries()
    if name in entries:
        return entries[name]
    folded = {known.lower().replace("_", "-"): known for known in entries}
    asked = str(name).lower().replace("_", "-")
    close = [folded[match] for match in difflib.get_close_matches(asked, folded, n=3)]
    hint = f"did you mean {' or '.join(close)}?" if close else "see flambeau.zoo.list()"
    raise ValueError(f"no trained network is called {name!r}: {hint}")


def labels(name):
    """The class names, in the order of a network's outputs: "imagenet" or "nsfw".

    >>> labels("imagenet")[967]
    'espresso'
    """
    file = resources.files("flambeau.zoo") / "labels" / f"{name}.txt"
    if not file.is_file():
        raise ValueError(f"there are no labels {name!r} in zoo/labels")
    return file.read_text("utf-8").splitlines()


@cache
def _entries():
    text = (resources.files("flambeau.zoo") / "index.toml").read_text("utf-8")
    table = tomllib.loads(text)
    ways = {name: Preprocessing(**options) for name, options in table["preprocessing"].items()}
    return {name: _entry(name, row, ways) for name, row in table["network"].items()}


def _entry(name, row, ways):
    row = {"variant": None, **row}
    files = tuple(File(**file) for file in row.pop("file"))
    preprocessing = ways[row.pop("preprocessing")]
    return Entry(name=name, files=files, preprocessing=preprocessing, **row)
