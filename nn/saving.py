"""The state of a network: by name, copied, in a file."""

import json
import os
from pathlib import Path

import numpy as np

from flambeau import kernels
from flambeau.nn import init, tied

FORMAT = "flambeau network 1"


def entries(module):
    """The state as (dotted name, module, attribute): parameters, then buffers, module by module."""
    for path, m in module.named_modules():
        for name in (*m.params, *m.buffers):
            if getattr(m, name) is not None:
                yield (f"{path}.{name}" if path else name), m, name


def state_dict(module):
    """Parameters and buffers as NumPy arrays by dotted name."""
    state = {}
    for path, m, name in entries(module):
        value = getattr(m, name)
        if isinstance(value, int):
            state[path] = np.array(value, np.int64)
        else:
            state[path] = kernels.of(value).numpy(value)
    return state


def load_state_dict(module, state, strict):
    """Copy a state into a module; nothing is changed unless everything fits."""
    slots = {path: (m, name) for path, m, name in entries(module)}
    counts = {path for path, (m, name) in slots.items() if isinstance(getattr(m, name), int)}
    missing = [path for path in slots if path not in state and path not in counts]
    unknown = [path for path in state if path not in slots]
    shapes = [
        f"{path} must be {tuple(getattr(m, name).shape)} — got {tuple(np.shape(state[path]))}"
        for path, (m, name) in slots.items()
        if path in state and path not in counts
        if tuple(np.shape(state[path])) != tuple(getattr(m, name).shape)
    ]
    problems = shapes + ([f"missing: {', '.join(missing)}"] if strict and missing else [])
    problems += [f"not known here: {', '.join(unknown)}"] if strict and unknown else []
    if problems:
        raise ValueError(f"load_state_dict({type(module).__name__}): " + "; ".join(problems))
    for path, (m, name) in slots.items():
        if path in counts:
            setattr(m, name, int(np.asarray(state.get(path, 0))))
        elif path in state:
            array = getattr(m, name)
            value = np.asarray(state[path]).astype(array.dtype, copy=False)
            kernels.of(array).assign(array, kernels.of(array).array(array, value))


def clone(value, memo=None):
    """A deep copy of a module (or of what it holds); arrays shared inside stay shared."""
    from flambeau.nn.module import Module

    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, Module):
        twin = object.__new__(type(value))
        memo[id(value)] = value, twin
        vars(twin).update({name: clone(v, memo) for name, v in vars(value).items()})
        return twin
    if isinstance(value, np.ndarray) or hasattr(value, "gpudata"):
        if (key := tied.memory(value)) not in memo:  # another view may follow
            memo[key] = value, kernels.of(value).copy(tied.block(value, value))
        twin = tied.view(memo[key][1], value)
    elif isinstance(value, dict):
        twin = {k: clone(v, memo) for k, v in value.items()}
    elif isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        twin = type(value)(clone(v, memo) for v in value)
    elif hasattr(value, "clone_with"):
        twin = value.clone_with(lambda v: clone(v, memo))
    else:
        return value
    memo[id(value)] = value, twin
    return twin


def header(module):
    """What is recorded of every module."""
    cls = type(module)
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "training": module.training,
        "frozen": module.frozen,
    }


def encode(value):
    """A constructor argument as JSON."""
    from flambeau.nn.module import Module

    if isinstance(value, Module):
        return value.config()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list)):
        return {type(value).__name__: [encode(v) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": value.dtype.str}
    raise TypeError(
        f"save: a constructor argument must be plain data or a module — got {value!r:.80}"
    )


def decode(value):
    """What `encode` wrote, built again."""
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return find_class(value["class"]).from_config(value)
    if "tuple" in value:
        return tuple(decode(v) for v in value["tuple"])
    if "list" in value:
        return [decode(v) for v in value["list"]]
    if "dict" in value:
        return {decode(k): decode(v) for k, v in value["dict"]}
    if "array" in value:
        return np.array(value["array"], value["dtype"])
    raise ValueError(f"load: the file's architecture holds {list(value)}, which is not known")


def find_class(name):
    """A module's class by its qualified name; nothing but flambeau itself is imported for it."""
    from flambeau.nn import module

    if name not in module.classes and name.startswith("flambeau.nngraph."):
        import flambeau.nngraph  # noqa: F401  defines Graph
    if name not in module.classes and name.startswith("flambeau.zoo.caffe_modules."):
        import flambeau.zoo.caffe_modules  # noqa: F401  defines Crop and others
    if name not in module.classes:
        raise ValueError(
            f"load: the file holds a {name}, which is not defined here; "
            "define or import that class first"
        )
    return module.classes[name]


def save(module, path, about=None):
    """Write a network to an HDF5 file: a temporary file first, renamed when it is whole."""
    import tempfile

    import h5py

    path = Path(path)
    whole = {"network": module.config(), "repeats": _repeats(module), "about": about}
    architecture = json.dumps(whole)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            file["architecture"] = np.frombuffer(architecture.encode(), np.uint8)
            _write(file.create_group("state"), module)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _repeats(module):
    """Where modules occur again: (path, path of the first), paths being lists of names."""
    first, found = {}, []

    def walk(module, path):
        if id(module) in first:
            found.append((path, first[id(module)]))
            return
        first[id(module)] = path
        for name, child in module.children():
            walk(child, [*path, name])

    walk(module, [])
    return found


def _inside(module, path):
    """The module at the end of a path."""
    for name in path:
        module = dict(module.children())[name]
    return module


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write(group, module):
    """Each array once; one that is shared is a second link to the same data set.

    Views of one memory are data sets of their own, so that each can be read by its name; which is
    to be a view of which, and in what layout, is written beside them.
    """
    written, layouts = {}, {}  # id of an array -> path; memory of a parameter -> path, layout
    state = state_dict(module)
    for path, m, name in entries(module):
        value = getattr(m, name)
        if isinstance(value, int):
            group[path] = state[path]
        elif id(value) in written:
            group[path] = group[written[id(value)]]
        else:
            written[id(value)] = path
            group[path] = state[path]
            if name in m.params:
                strides = np.array(value.strides, np.int64) // value.dtype.itemsize
                first, layout = layouts.setdefault(tied.memory(value), (path, strides))
                if first != path:
                    group[first].attrs["strides"] = layout
                    group[path].attrs["strides"] = strides
                    group[path].attrs["view of"] = first


def is_saved(path):
    """True for an HDF5 file that `save` wrote."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("format") == FORMAT
    except OSError:
        return False


def load(path):
    """The network that `save` wrote: rebuilt from constructor arguments, no code is run.

    Classes of your own must be defined before. What was saved beside it is `network.about`.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise ValueError(f"{path} is an HDF5 file, but not a network saved by flambeau")
            whole = json.loads(file["architecture"][()].tobytes().decode())
            with init.skipped():
                module = decode(whole["network"])
            for path, first in whole["repeats"]:
                _inside(module, path[:-1]).set_child(path[-1], _inside(module, first))
            _read(file["state"], module)
    except OSError as error:
        if not os.path.isfile(path):
            raise
        raise ValueError(f"{path} is not a network saved by flambeau, or is cut short") from error
    module.about = whole["about"]
    return module


def _read(group, module):
    """Fill a module from a file; arrays that were shared are shared again."""
    for path, m, name in entries(module):
        value = getattr(m, name)
        if not isinstance(value, int):  # new modules are float32, these need not be
            setattr(m, name, np.empty(value.shape, group[path].dtype))
    load_state_dict(module, {path: group[path][()] for path, _, _ in entries(module)}, True)
    first, learned = {}, {}
    for path, m, name in entries(module):
        if name not in m.params:
            continue
        learned[path] = m, name
        key = group[path].id.__hash__()
        if key in first:
            owner, attribute = first[key]
            setattr(m, name, getattr(owner, attribute))
            setattr(m, "grad_" + name, getattr(owner, "grad_" + attribute))
        elif "strides" in group[path].attrs:
            setattr(m, name, _view(group, path, m, name, learned))
        first.setdefault(key, (m, name))


def _view(group, path, m, name, learned):
    """A parameter in the layout in which it was saved: of its own, or a view of an earlier one."""
    about = group[path].attrs
    owner = about.get("view of", path)
    fits = owner in learned and len(about["strides"]) == group[path].ndim
    if not fits or group[owner].size != group[path].size or "strides" not in group[owner].attrs:
        raise ValueError(f"load: {path} must be a view of a parameter before it — got {owner!r}")
    value = getattr(m, name)
    layout = tied.Layout(value.shape, tuple(map(int, about["strides"])))
    if owner == path:
        block = tied.block(value, layout)
        return tied.view(kernels.of(block).copy(block), layout)
    return tied.view(tied.block(*[getattr(*learned[owner])] * 2), layout)
