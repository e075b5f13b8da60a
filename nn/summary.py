"""What is in a network, as a table."""

import contextlib
import time


def table(module, *inputs):
    """Name, module, output shape and number of parameters, a line each.

    Without an input the shapes are left out; with one a forward pass in evaluation is made.
    """
    shapes = _shapes(module, inputs) if inputs else {}
    rows = [("name", "module", "output", "parameters")]
    for name, m in module.named_modules():
        own = parameters_of(m)
        title = type(m).__name__ if m.children() else repr(m)
        rows.append((name or "(itself)", title, shapes.get(id(m), ""), f"{own:,}" if own else ""))
    total = sum(p.size for p in module.parameters())
    return "\n".join([*aligned(rows, "<<<>"), f"{total:,} parameters"])


def parameters_of(module):
    """The number of learned numbers of a module itself, without its children."""
    return sum(getattr(module, p).size for p in module.params if getattr(module, p) is not None)


def aligned(rows, sides):
    """Rows of strings as lines, in columns to the left "<" or to the right ">".

    >>> aligned([("a", "10"), ("bcd", "9")], "<>")
    ['a    10', 'bcd   9']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{t:{s}{w}}" for t, s, w in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


@contextlib.contextmanager
def watching(modules, method, see):
    """Inside, see(module, arguments, result, start) follows each call of a method of the modules.

    start: the time before the call, of time.perf_counter().
    """

    def watch(m):
        run = getattr(m, method)

        def watched(*arguments, **options):
            start = time.perf_counter()
            result = run(*arguments, **options)
            see(m, arguments, result, start)
            return result

        setattr(m, method, watched)

    for m in modules:
        watch(m)
    try:
        yield
    finally:
        for m in modules:
            delattr(m, method)


@contextlib.contextmanager
def evaluating(module):
    """Inside, a module and all in it are in evaluation; then each in its own mode again."""
    modules = module.modules()
    modes = [m.training for m in modules]
    try:
        module.eval()
        yield
    finally:
        for m, mode in zip(modules, modes, strict=True):
            m.training = mode


def _shapes(module, inputs):
    """The output shape of every module, as text."""
    shapes = {}

    def see(m, arguments, y, start):
        shapes[id(m)] = shape_of(y)

    with evaluating(module), watching(module.modules(), "forward", see):
        module(*inputs)
    return shapes


def shape_of(y):
    """The shape of an array, or those of a tuple of arrays, as text."""
    if isinstance(y, tuple):
        return "(" + ", ".join(shape_of(v) for v in y) + ")"
    return str(tuple(y.shape))
