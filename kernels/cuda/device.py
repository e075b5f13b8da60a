"""Launching kernels where their arrays lie: on a GPU, or on the host's fibres."""

import functools
import operator
import re

import numpy as np

from flambeau.kernels.cuda import gpu, host, source

_DTYPES = {
    kind: np.dtype(dtype)
    for kind, dtype in {"int*": "i4", "i64*": "i8", "float*": "f4", "double*": "f8"}.items()
}
_FLOATS = np.dtype(np.float32), np.dtype(np.float64)
_NOWHERE = object()  # no array's allocator


def of(x):
    """What the array x lies on: the module `host` or a `gpu.Gpu`."""
    return host if isinstance(x, host.HostArray) else gpu.of(x)


def device_of(x):
    """The name of the device of x: "host" or "cuda:<number>"."""
    return _name(of(x))


def to_device(x, where):
    """The ndarray x on the device "host", "cuda" or "cuda:<number>"."""
    x = np.asarray(x)  # an operation of NumPy on 0-d arrays gives a scalar
    if where == "host":
        return host.to_host(x)
    number = re.fullmatch(r"cuda(?::(\d+))?", where)[1]
    place = gpu.get(None if number is None else int(number))
    y = place.empty(x.shape, x.dtype)
    with place.current():
        y.set(np.ascontiguousarray(x).reshape(x.shape))
    return y


def launch(family, name, n, *arguments):
    """Run a kernel that is STRIDED over n elements.

    Arrays become pointers (None a null pointer), integers i64, other numbers real, which is
    the dtype of the first array given for a real pointer, bytes structs. n = 0 launches nothing.
    """
    place, dtype, kinds, values = _checked(family, name, arguments)
    if n > 0:
        place.launch(family, name, dtype, kinds, values, place.spread(n))


def launch_blocks(family, name, blocks, *arguments):
    """Run a kernel whose BLOCKS go over so many rows; otherwise as `launch`."""
    place, dtype, kinds, values = _checked(family, name, arguments)
    if blocks > 0:
        place.launch(family, name, dtype, kinds, values, blocks)


def launch_strided(family, name, n, *arguments):
    """Run a kernel as `launch` does, one that takes its arrays' strides."""
    place, dtype, kinds, values = _checked(family, name, arguments, contiguous=False)
    if n > 0:
        place.launch(family, name, dtype, kinds, values, place.spread(n))


def _checked(family, name, arguments, contiguous=True):
    """The place, the dtype of real, and the kinds and values of the arguments."""
    kinds, parameters = _signature(family, name)
    if len(arguments) != len(parameters):
        wanted = ", ".join(parameter for parameter, _, _ in parameters)
        _fail(family, name, f"takes ({wanted})", f"{len(arguments)} arguments")
    place, real, allocator, values = None, None, _NOWHERE, []
    for (parameter, kind, dtype), value in zip(parameters, arguments, strict=True):
        if kind[-1] != "*":
            plain = type(value) is (int if kind == "i64" else float)
            values.append(value if plain else _number(family, name, parameter, kind, value))
            continue
        if value is None:
            values.append(0)
            continue
        given = getattr(value, "dtype", None)
        if kind == "real*":
            dtype = real = real or given
        owner = getattr(value, "allocator", None)
        # What is as the array before it is quickly found to be right, all else is looked at.
        if owner is not allocator or given is not dtype or not value.flags.c_contiguous:
            _check_array(family, name, parameter, kind, dtype, contiguous, value)
            here, allocator = of(value), owner
            place = place or here
            if here is not place:
                where = _name(place), _name(here)
                _fail(family, name, f"{parameter} must be on {where[0]}", f"it on {where[1]}")
        values.append(int(value.gpudata or 0))
    if place is None:
        _fail(family, name, "must be given an array", "none")
    return place, real or _FLOATS[0], kinds, values


@functools.cache
def _signature(family, name):
    """The kinds of a kernel's parameters, and (name, kind, dtype or None) of each."""
    parameters = source.kernels(family).get(name)
    if parameters is None:
        raise ValueError(f"{source.path(family)} must have a kernel {name} — it has none")
    kinds = [kind for _, kind in parameters]
    return kinds, [(parameter, kind, _DTYPES.get(kind)) for parameter, kind in parameters]


def _number(family, name, parameter, kind, value):
    if kind.startswith("struct"):
        if isinstance(value, bytes):
            return value
        _fail(family, name, f"{parameter} must be bytes (source.record)", type(value).__name__)
    try:
        return operator.index(value) if kind == "i64" else float(value)
    except (TypeError, ValueError):
        what = "an integer" if kind == "i64" else "a number"
        _fail(family, name, f"{parameter} must be {what}", repr(value))


def _check_array(family, name, parameter, kind, dtype, contiguous, value):
    if not hasattr(value, "gpudata"):
        demand = f"{parameter} must be an array on a device (kernels.to moves one)"
        _fail(family, name, demand, type(value).__name__)
    if kind == "real*" and (value.dtype != dtype or dtype not in _FLOATS):
        _fail(family, name, f"{parameter} must be {_allowed(dtype)}", value.dtype)
    if dtype is not None and value.dtype != dtype:
        _fail(family, name, f"{parameter} must be {dtype}", value.dtype)
    if contiguous and not value.flags.c_contiguous:
        got = f"shape {value.shape} with strides {value.strides}"
        _fail(family, name, f"{parameter} must be contiguous (contiguous(x) copies)", got)


def _allowed(dtype):
    return str(dtype) if dtype in _FLOATS else "float32 or float64"


def is_on(x, where):
    """True when x lies on the device of that name; "cuda" is the GPU in use."""
    place = of(x)
    if where == "cuda" and place is not host:
        return place is gpu.get(None)
    return _name(place) == where


def _name(place):
    return "host" if place is host else repr(place)


def _fail(family, name, demand, got):
    raise TypeError(f"kernel {name} of {source.path(family).name}: {demand} — got {got}")
