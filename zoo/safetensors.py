"""safetensors files, by the safetensors library; bfloat16 becomes float32, exactly."""

import json
import os

import numpy as np

from flambeau.zoo.errors import FormatError

NUMPY = set("F64 F32 F16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL C64".split())


def read(path):
    """A dict of arrays by name.

    Raises FormatError when the file is damaged, or has numbers that NumPy has no type for.
    """
    import safetensors

    name = os.path.basename(path)
    with open(path, "rb") as file:  # a missing file is reported by Python, not by the library
        try:
            with safetensors.safe_open(path, framework="np") as source:
                return {key: _tensor(source, file, key) for key in source.keys()}  # noqa: SIM118
        except safetensors.SafetensorError as error:
            raise FormatError(f"{name} is not a sound safetensors file: {error}") from None
        except FormatError as error:
            raise FormatError(f"{name} {error}") from None


def _tensor(source, file, key):
    kind = source.get_slice(key).get_dtype()
    if kind == "BF16":
        return _bfloat16(file, key)
    if kind not in NUMPY:
        raise FormatError(f"has {kind} numbers in {key}, for which NumPy has no type")
    return source.get_tensor(key)


def _bfloat16(file, key):
    """The upper halves of float32 numbers; the library has checked the header."""
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    entry = json.loads(file.read(length))[key]
    start, end = entry["data_offsets"]
    file.seek(8 + length + start)
    halves = np.frombuffer(file.read(end - start), "<u2").astype(np.uint32)
    return (halves << 16).view(np.float32).reshape(entry["shape"])
