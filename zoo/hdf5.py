"""HDF5 files, by h5py: every dataset by its path."""

import os

import numpy as np

from flambeau.zoo.errors import FormatError

RATIO = 1000  # a compressed dataset may unpack to this many times the file's size


def read(source):
    """A dict of arrays by dataset path ("layers/conv1/weight"); texts become arrays of str.

    source: a path, or an open binary file.
    Raises FormatError when the file is damaged, or a dataset lies in another file.
    """
    import h5py

    name = os.path.basename(getattr(source, "name", source)) if _named(source) else "the file"
    size = _size(source)
    found = {}

    def visit(path, item):
        if isinstance(item, h5py.Dataset):
            found[path] = _array(item, size)

    try:
        with h5py.File(source, "r") as file:
            file.visititems(visit)  # follows no link into another file
    except FormatError as error:
        raise FormatError(f"{name} {error}") from None
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        said = " ".join(str(error).split())
        raise FormatError(f"{name} is not a sound HDF5 file: {said}") from None
    return found


def _named(source):
    return isinstance(getattr(source, "name", source), (str, os.PathLike))


def _size(source):
    if isinstance(source, (str, os.PathLike)):
        return os.path.getsize(source)
    return source.seek(0, os.SEEK_END)


def _array(dataset, size):
    import h5py

    if dataset.external or dataset.is_virtual:
        raise FormatError(f"has a dataset {dataset.name} whose numbers lie in another file")
    if dataset.shape is None:
        raise FormatError(f"has a dataset {dataset.name} without a shape")
    if dataset.nbytes > RATIO * size:
        raise FormatError(
            f"has a dataset {dataset.name} of {dataset.nbytes} bytes, far more than the file's "
            f"{size}"
        )
    if h5py.check_string_dtype(dataset.dtype):
        return np.asarray(dataset.asstr(errors="surrogateescape")[()], str)
    if dataset.dtype.kind not in "biufcSV" or dataset.dtype.hasobject:
        raise FormatError(f"has a dataset {dataset.name} of {dataset.dtype}, which is no tensor")
    return dataset[()] if dataset.shape else np.asarray(dataset[()])
