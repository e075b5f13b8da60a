"""What PyTorch's pickles name of NumPy and PyTorch, and the arrays that flambeau makes of it."""

import math
import re
import sys

import numpy as np

from flambeau.zoo.errors import FormatError
from flambeau.zoo.unpickle import ALLOWED, Global, Record, Unpickler, latin1, listed, shown

NUMERIC = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16)")
NAMES = (
    "float64 float32 float16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool "
    "complex64 complex128"
)
DTYPES = {f"torch.{name}": np.dtype(name) for name in NAMES.split()}
DTYPES["torch.bfloat16"] = np.dtype("u2")  # in the file; a tensor of it becomes float32
STORED = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}
STORAGES = {
    f"{module}.{name}Storage": f"torch.{dtype}"
    for module in ("torch", "torch.cuda")
    for name, dtype in STORED.items()
}
STORAGES |= dict.fromkeys(("torch.storage.UntypedStorage", "torch.UntypedStorage"), "torch.uint8")
NO_ARRAY = re.compile(r"torch\.(?:cuda\.)?((float[48]_|bits|complex32|q|Q|u?int[1-7](?!\d))\w*)")


def counts(*numbers):
    """Whether numbers are sizes that memory can have."""
    return all(type(n) is int and 0 <= n < 2**63 for n in numbers)


class Storage:
    """count numbers of a file, and the arrays that tensors have over them, one a type.

    The container fills `raw` after the pickle is read; `finish` then makes the values right.
    """

    def __init__(self, count, itemsize):
        self.count, self.arrays = count, {}
        self.raw = np.empty(count * itemsize, np.uint8)

    def over(self, dtype):
        """raw as whole numbers of a NumPy dtype."""
        return self.raw[: self.raw.size // dtype.itemsize * dtype.itemsize].view(dtype)

    def array(self, dtype):
        if dtype not in self.arrays:
            array = self.over(DTYPES[dtype])
            # bfloat16 is the upper half of a float32
            self.arrays[dtype] = (
                np.empty(array.size, np.float32) if dtype == "torch.bfloat16" else array
            )
        return self.arrays[dtype]

    def finish(self, swapped):
        parts = {np.empty(0, DTYPES[dtype]).real.dtype for dtype in self.arrays}
        if swapped and len({part.itemsize for part in parts}) > 1:
            raise FormatError("has a big-endian storage that is of two types")
        if swapped and parts:
            self.over(parts.pop()).byteswap(inplace=True)
        if "torch.bool" in self.arrays:
            np.not_equal(self.raw, 0, out=self.arrays["torch.bool"])
        if "torch.bfloat16" in self.arrays:
            halves = self.over(np.dtype(np.uint16))
            bits = self.arrays["torch.bfloat16"].view(np.uint32)
            np.left_shift(halves, 16, out=bits, dtype=np.uint32)


class Elements:
    """What a pickle's reference to a storage gives: count elements of a type, from start."""

    def __init__(self, storage, dtype, start, count):
        self.storage, self.dtype, self.start, self.count = storage, dtype, start, count

    def array(self, dtype):
        return self.storage.array(dtype)[self.start : self.start + self.count]


def view(source, dtype, offset, size, stride):
    """The tensor, when every element of it lies inside its storage."""
    array = source.array(dtype)
    if type(size) is not tuple or type(stride) is not tuple or len(size) != len(stride):
        raise FormatError("has a tensor whose size and stride disagree")
    if not counts(offset, *size, *stride) or len(size) > 32:
        raise FormatError("has a tensor whose size, stride or offset is out of range")
    if math.prod(n for n in size if n) * array.itemsize >= 2**63:
        raise FormatError("has a tensor larger than any memory")
    if 0 in size:
        return np.empty(size, array.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if last >= array.size:
        raise FormatError(
            f"has a tensor of size {size} that reaches element {last} of a storage of {array.size}"
        )
    steps = [(s if n > 1 else 1) * array.itemsize for n, s in zip(size, stride, strict=True)]
    return np.ndarray(size, array.dtype, array, offset * array.itemsize, steps)


def tensor(source, offset, size, stride, grad=False, hooks=None, metadata=None):
    if metadata:
        raise FormatError(
            "has a lazily conjugated or negated tensor; call .resolve_conj().resolve_neg() "
            "before saving it"
        )
    return view(source, source.dtype, offset, size, stride)


def typed_tensor(source, offset, size, stride, grad, hooks, dtype, metadata=None):
    return view(source, dtype.name, offset, size, stride)


def parameter(data, *_):
    if not isinstance(data, np.ndarray):
        raise FormatError(f"makes a Parameter of {shown(data)}")
    return data


def tensor_with_attributes(function, kind, args, state=None):
    """The tensor alone; of class torch.Tensor or Parameter only."""
    if function.name not in REBUILDS or kind.name not in KINDS:
        raise FormatError(f"has a tensor that is a {kind.name}, not a torch.Tensor")
    return REBUILDS[function.name](*args)


def device(kind, index=None):
    if not isinstance(kind, str) or not (index is None or counts(index)):
        raise FormatError("has a torch.device without a name")
    return kind if index is None else f"{kind}:{index}"


class Dtype:
    """A NumPy dtype; its byte order comes in a later instruction."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or not NUMERIC.fullmatch(code):
            raise FormatError(f"has a NumPy array of type {shown(code)}, which is not numeric")
        self.dtype = np.dtype(code)

    def exactly(self, data, shape):
        """data as bytes, when it is an array of that shape."""
        if type(shape) is not tuple or not counts(*shape) or len(shape) > 32:
            raise FormatError("has a NumPy array without a valid shape")
        data = latin1(data)
        if len(data) != math.prod(shape) * self.dtype.itemsize:
            raise FormatError("has a NumPy array whose data and shape disagree")
        return data


def scalar(dtype, data):
    return np.frombuffer(dtype.exactly(data, ()), dtype.dtype)[0]


def from_buffer(data, dtype, shape, order):
    flat = np.frombuffer(dtype.exactly(data, shape), dtype.dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def fill(array, version, shape, dtype, fortran, data):
    """A NumPy array, new from `_reconstruct`, takes its shape, type and data."""
    if array.dtype != np.int8 or array.size or array.base is not None:
        raise FormatError("fills an array that is not new")
    array.__setstate__((1, shape, dtype.dtype, bool(fortran), dtype.exactly(data, shape)))


REBUILDS = {
    "torch._utils._rebuild_tensor": tensor,
    "torch._utils._rebuild_tensor_v2": tensor,
    "torch._utils._rebuild_tensor_v3": typed_tensor,
    "torch._utils._rebuild_parameter": parameter,
    "torch._utils._rebuild_parameter_with_state": parameter,
}
KINDS = dict.fromkeys(("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter"))
NUMPY = {"numpy.dtype": Dtype, "numpy.ndarray": None}
for _module in ("numpy.core", "numpy._core"):
    NUMPY[f"{_module}.multiarray.scalar"] = scalar
    NUMPY[f"{_module}.multiarray._reconstruct"] = lambda *_: np.empty(0, np.int8)
    NUMPY[f"{_module}.numeric._frombuffer"] = from_buffer
TORCH = REBUILDS | KINDS | dict.fromkeys([*DTYPES, *STORAGES])
TORCH |= {
    "torch.Size": lambda size=(): tuple(listed(size)),
    "torch.device": device,
    "torch._tensor._rebuild_from_type_v2": tensor_with_attributes,
    "torch._tensor._rebuild_from_type": tensor_with_attributes,
}


class TensorUnpickler(Unpickler):
    """An Unpickler that knows arrays and tensors; `storages` are to be filled afterwards.

    reserve: reserve(key, nbytes) raises when the file cannot have that many bytes for a storage
    """

    allowed, what = ALLOWED | NUMPY | TORCH, "a PyTorch file"

    def __init__(self, size, reserve):
        super().__init__(size)
        self.reserve, self.storages = reserve, {}

    def find(self, name):
        if name.startswith("__torch__."):  # TorchScript: each module is a record of its fields
            return Global(name, Record)
        if name in self.allowed:
            return super().find(name)
        if found := NO_ARRAY.fullmatch(name):
            raise FormatError(
                f"holds {found[1]} numbers, for which NumPy has no type; convert the tensors with "
                ".float() or .dequantize() before saving them"
            )
        if name.startswith("torch._utils._rebuild_"):
            raise FormatError(
                f"holds a tensor made by {shown(name)}, which is no plain array; make it one "
                "before saving, with .to_dense() or .dequantize()"
            )
        if name.rpartition(".")[2][:1].isupper() and name.split(".")[0] not in (
            sys.stdlib_module_names
        ):
            raise FormatError(
                f"names {shown(name)}, whose code is not part of a weights file; nothing was run. "
                "If it is a whole pickled model, save model.state_dict() and read that"
            )
        return super().find(name)

    def set_state(self, target, state):
        if isinstance(target, Dtype):
            order = state[1] if state[1] in ("<", ">") else "="
            target.dtype = target.dtype.newbyteorder(order)
        elif isinstance(target, np.ndarray):
            fill(target, *listed(state))
        else:
            super().set_state(target, state)

    def persistent_load(self, pid):
        word, kind, key, _, count, part = (*listed(pid), None)[:6]
        dtype = STORAGES.get(getattr(kind, "name", None))
        if word != "storage" or not dtype or not isinstance(key, str) or not counts(count):
            raise FormatError("refers to what is not a storage")
        if key not in self.storages:
            self.reserve(key, count * DTYPES[dtype].itemsize)
            self.storages[key] = Storage(count, DTYPES[dtype].itemsize)
        storage = self.storages[key]
        if count * DTYPES[dtype].itemsize != storage.raw.size:
            raise FormatError(f"gives storage {shown(key)} two sizes")
        start, length = (0, count) if part is None else listed(part)[1:3]
        if not counts(start, length) or start + length > count:
            raise FormatError(f"has a part of storage {shown(key)} that lies outside it")
        return Elements(storage, dtype, start, length)
