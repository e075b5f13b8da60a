"""A network as a flat list of operations, while it is optimised."""


class Op:
    """One operation: a module applied to values. A value is (op, path into its tuple)."""

    def __init__(self, name, module, inputs=(), where=""):
        self.name, self.module, self.inputs, self.where = name, module, list(inputs), where


class Tuple(list):
    """Several values that make one tuple."""


def consumers(ops, outs):
    """How often each operation's value is used, by its id; outputs count."""
    counts = {}
    for used, _ in [value for op in ops for value in op.inputs] + flat(outs):
        counts[id(used)] = counts.get(id(used), 0) + 1
    return counts


def flat(values):
    """The values in nested tuples."""
    return [v for value in values for v in (flat(value) if isinstance(value, Tuple) else [value])]


def absorb(into, op, ops, outs, aliases):
    """Let `into` stand for `op`: it has its name, and everything that used `op` uses `into`.

    The value that `into` had before is not computed any more, so its names go.
    """
    into.name = op.name
    forget(into, aliases)
    for name, value in aliases.items():
        if not isinstance(value, Tuple) and value[0] is op:
            aliases[name] = into, value[1]
    op.inputs = []  # it uses nothing any more
    replace(ops, outs, op, into)


def replace(ops, outs, old, new):
    """Let everything that used the operation `old` use `new`."""
    for values in [op.inputs for op in ops] + [outs] + [v for v in outs if isinstance(v, Tuple)]:
        for i, value in enumerate(values):
            if not isinstance(value, Tuple) and value[0] is old:
                values[i] = (new, value[1])


def forget(op, aliases):
    """Take away the names of the operation's value, which is not computed any more."""
    for name in [n for n, value in aliases.items() if op in [v[0] for v in flat([value])]]:
        del aliases[name]
