"""Pickles read as data: nothing that a file names is imported, looked up or called.

The standard library's tokenizer (`pickletools.genops`) splits a pickle into instructions; the
few kinds that plain data needs are carried out here, on stand-ins. A subclass of
`pickle.Unpickler` would not do: its C code fills gigabytes for one forged memo index, serves
registered extension codes without asking, and hashes keys that are nested a million deep.
"""

import pickletools
import warnings

import numpy as np

from flambeau.zoo.errors import FormatError

SCALARS = (str, bytes, int, float, complex, type(None), np.generic)
SIZED = (str, bytes, bytearray, list, tuple, dict, set, frozenset)

PUSHES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BYTEARRAY8".split()
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Global:
    """A name that a pickle may use, with the function that stands in for calling it, if any."""

    def __init__(self, name, call=None):
        self.name, self.call = name, call

    def __repr__(self):
        return self.name


class Record(dict):
    """The attributes of an object whose class is not loaded (`argparse.Namespace`, TorchScript)."""

    def __init__(self):  # the pickle constructs it with nothing: its attributes follow
        super().__init__()


def shown(value):
    """Something of a file as an error may quote it: short and printable."""
    if isinstance(value, str) and value.isprintable() and len(value) < 200:
        return value
    return repr(value[:200]) if isinstance(value, (str, bytes)) else f"a {type(value).__name__}"


def hashable(key):
    """key, when it is a scalar or a short tuple of scalars: others may take forever to hash."""
    flat = key if type(key) is tuple else (key,)
    if len(flat) > 32 or not all(isinstance(part, (*SCALARS, Global)) for part in flat):
        raise FormatError(f"has a dict or set with {shown(key)} for a key")
    if any(isinstance(part, int) and not -(2**64) < part < 2**64 for part in flat):
        raise FormatError("has a dict or set with a key beyond 64 bits")
    return key


def listed(items):
    """items, when the file lists them one by one: a view of a tensor may claim any number."""
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise FormatError(f"makes a collection of {shown(items)}")
    return items


def pairs(items=()):
    """An OrderedDict or Counter as a plain dict, from a dict or a list of pairs."""
    items = items.items() if isinstance(items, dict) else map(listed, listed(items))
    return {hashable(key): value for key, value in items}


def members(items=()):
    """A frozenset, or what goes into a set."""
    return frozenset(hashable(item) for item in listed(items))


def latin1(text, encoding="latin1"):
    """Protocol 2's way to write bytes: `_codecs.encode(text, "latin1")`."""
    if isinstance(text, (bytes, bytearray)):
        return bytes(text)
    if encoding not in ("latin1", "latin-1"):
        raise FormatError(f"has bytes encoded as {shown(encoding)}, not latin1")
    return text.encode("latin1")


ALLOWED = {
    "collections.OrderedDict": pairs,
    "collections.Counter": pairs,
    "collections.defaultdict": lambda factory=None: {},
    "argparse.Namespace": Record,
    "_codecs.encode": latin1,
}
for _module in ("builtins", "__builtin__"):
    ALLOWED |= {f"{_module}.{name}": None for name in ("dict", "list", "int", "float", "str")}
    ALLOWED[f"{_module}.set"] = lambda items=(): set(members(items))
    ALLOWED[f"{_module}.frozenset"] = members
    ALLOWED[f"{_module}.complex"] = lambda real, imag: complex(real, imag)
    ALLOWED[f"{_module}.bytearray"] = lambda data=b"", *_: bytearray(latin1(data))


class Unpickler:
    """unpickler.load(stream) -> the object

    size: of the file in bytes; it bounds the memory that copies may take
    stream: a binary file whose read(n) gives at most what is left (io.BytesIO, mmap)

    Raises FormatError for whatever is not plain data; it says what the file does ("names
    os.system, …"), and the caller puts the file's name before it.

    >>> import io, pickle
    >>> Unpickler(99).load(io.BytesIO(pickle.dumps({"a": (1, 2.5)})))
    {'a': (1, 2.5)}
    """

    allowed, what = ALLOWED, "a pickle"

    def __init__(self, size):
        self.globals = {}
        self.budget = 4 * size + 4096

    def load(self, stream):
        self.stack, self.marked, self.memo = [], [], {}
        try:
            with warnings.catch_warnings():  # a damaged text may have an odd escape
                warnings.simplefilter("ignore", DeprecationWarning)
                for opcode, arg, _ in pickletools.genops(stream):
                    if opcode.name == "STOP":  # genops raises where there is none
                        return self.stack.pop()
                    self.step(opcode.name, arg)
        except FormatError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
            raise FormatError(f"is not {self.what}, or is damaged: {shown(str(error))}") from None

    def step(self, name, arg):
        if name in PUSHES:
            self.stack.append(arg)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            self.stack.append(tuple(self.take(TUPLES[name])))
        elif name in INSTRUCTIONS:
            INSTRUCTIONS[name](self, arg)
        elif name not in ("PROTO", "FRAME"):
            self.refuse(f"uses the pickle instruction {name}")

    def refuse(self, what):
        raise FormatError(f"{what}, which is not part of a weights file; nothing was run")

    def take(self, count):
        if count > len(self.stack):
            raise ValueError("an instruction finds too little before it")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def mark(self, _):
        self.marked.append(self.stack)
        self.stack = []

    def pop_mark(self):
        items, self.stack = self.stack, self.marked.pop()
        return items

    def pop(self, _):
        return self.stack.pop() if self.stack else self.pop_mark()

    def collect(self, kind):
        items = self.pop_mark()
        self.stack.append(kind(items))

    def new_dict(self, _):
        items = self.pop_mark()
        self.stack.append({})
        self.set_items(items)

    def append(self, items):
        if not isinstance(self.stack[-1], list):
            raise FormatError(f"appends to {shown(self.stack[-1])}")
        self.stack[-1].extend(items)

    def set_items(self, items):
        if not isinstance(self.stack[-1], dict):
            raise FormatError(f"sets items of {shown(self.stack[-1])}")
        self.stack[-1].update(pairs(list(zip(items[::2], items[1::2], strict=True))))

    def add_items(self, items):
        if not isinstance(self.stack[-1], set):
            raise FormatError(f"adds items to {shown(self.stack[-1])}")
        self.stack[-1].update(members(items))

    def put(self, index):
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def find(self, name):
        """The stand-in for a dotted name."""
        if name not in self.allowed:
            self.refuse(f"names {shown(name)}")
        return Global(name, self.allowed[name])

    def push_global(self, name):
        if name not in self.globals:
            self.globals[name] = self.find(name)
        self.stack.append(self.globals[name])

    def stack_global(self, _):
        module, name = self.take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            self.refuse(f"names something by {shown(name)}")
        self.push_global(f"{module}.{name}")

    def instance(self, name):
        self.find(name.replace(" ", ".", 1))
        self.refuse("uses the pickle instruction INST")

    def spend(self, values):
        """Copies cost: a small file that copies one long value a million times stops here."""
        self.budget -= sum(len(value) for value in values if isinstance(value, SIZED))
        if self.budget < 0:
            raise FormatError("would unpack to far more than its own size")

    def call(self, _):
        function, args = self.take(2)
        if not isinstance(function, Global) or function.call is None or type(args) is not tuple:
            called = function.name if isinstance(function, Global) else shown(function)
            self.refuse(f"calls {called}")
        self.spend(args)
        self.stack.append(function.call(*args))

    def build(self, _):
        target, state = self.take(2)
        self.stack.append(target)
        self.spend([state, *state] if type(state) is tuple else [state])
        self.set_state(target, state)

    def set_state(self, target, state):
        if isinstance(target, Record):
            target.update(pairs(state))
        elif not isinstance(target, dict):  # a dict's attributes (`_metadata`) hold no weights
            self.refuse(f"sets the state of {shown(target)}")

    def persistent_load(self, pid):
        raise FormatError("refers to data outside its pickle")


INSTRUCTIONS = {
    "MARK": Unpickler.mark,
    "POP": Unpickler.pop,
    "POP_MARK": lambda self, _: self.pop_mark(),
    "DUP": lambda self, _: self.stack.append(self.stack[-1]),
    "LIST": lambda self, _: self.collect(list),
    "TUPLE": lambda self, _: self.collect(tuple),
    "FROZENSET": lambda self, _: self.collect(members),
    "DICT": Unpickler.new_dict,
    "APPEND": lambda self, _: self.append(self.take(1)),
    "APPENDS": lambda self, _: self.append(self.pop_mark()),
    "SETITEM": lambda self, _: self.set_items(self.take(2)),
    "SETITEMS": lambda self, _: self.set_items(self.pop_mark()),
    "ADDITEMS": lambda self, _: self.add_items(self.pop_mark()),
    "GLOBAL": lambda self, arg: self.push_global(arg.replace(" ", ".", 1)),
    "STACK_GLOBAL": Unpickler.stack_global,
    "INST": Unpickler.instance,
    "REDUCE": Unpickler.call,
    "NEWOBJ": Unpickler.call,
    "BUILD": Unpickler.build,
    "BINPERSID": lambda self, _: self.stack.append(self.persistent_load(self.stack.pop())),
}
INSTRUCTIONS |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), Unpickler.put)
INSTRUCTIONS |= dict.fromkeys(
    ("GET", "BINGET", "LONG_BINGET"), lambda self, index: self.stack.append(self.memo[index])
)
