"""Launching kernels where their arrays lie: on a GPU, or on the host's fibres."""

import operator
import re

import numpy as np

from flambeau.kernels.cuda import gpu, host, source

_DTYPES = {
    kind: np.dtype(dtype)
    for kind, dtype in {"int*": "i4", "i64*": "i8", "float*": "f4", "double*": "f8"}.items()
}
_FLOATS = np.dtype(np.float32), np.dtype(np.float64)


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
    parameters = source.kernels(family).get(name)
    if parameters is None:
        raise ValueError(f"{source.path(family)} must have a kernel {name} — it has none")
    if len(arguments) != len(parameters):
        wanted = ", ".join(parameter for parameter, _ in parameters)
        _fail(family, name, f"takes ({wanted})", f"{len(arguments)} arguments")
    place, dtype, values = None, None, []
    for (parameter, kind), value in zip(parameters, arguments, strict=True):
        if kind[-1] != "*":
            values.append(_number(family, name, parameter, kind, value))
        elif value is None:
            values.append(0)
        else:
            if kind == "real*" and dtype is None:
                dtype = getattr(value, "dtype", None)
            _check_array(family, name, parameter, _DTYPES.get(kind), contiguous, value)
            if kind == "real*" and (value.dtype != dtype or dtype not in _FLOATS):
                _fail(family, name, f"{parameter} must be {_allowed(dtype)}", value.dtype)
            here = of(value)
            place = place or here
            if here is not place:
                _fail(
                    family, name, f"{parameter} must be on {_name(place)}", f"it on {_name(here)}"
                )
            values.append(int(value.gpudata or 0))
    if place is None:
        _fail(family, name, "must be given an array", "none")
    return place, dtype or _FLOATS[0], [kind for _, kind in parameters], values


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


def _check_array(family, name, parameter, dtype, contiguous, value):
    if not hasattr(value, "gpudata"):
        _fail(
            family,
            name,
            f"{parameter} must be an array on a device (kernels.to moves one)",
            type(value).__name__,
        )
    if dtype is not None and value.dtype != dtype:
        _fail(family, name, f"{parameter} must be {dtype}", value.dtype)
    if contiguous and not value.flags.c_contiguous:
        _fail(
            family,
            name,
            f"{parameter} must be contiguous (contiguous(x) copies)",
            f"shape {value.shape} with strides {value.strides}",
        )


def _allowed(dtype):
    return str(dtype) if dtype in _FLOATS else "float32 or float64"


def _name(place):
    return "host" if place is host else repr(place)


def _fail(family, name, demand, got):
    raise TypeError(f"kernel {name} of {source.path(family).name}: {demand} — got {got}")
