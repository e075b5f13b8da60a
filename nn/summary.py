"""What is in a network, as a table."""


def table(module, *inputs):
    """Name, module, output shape and number of parameters, a line each.

    Without an input the shapes are left out; with one a forward pass in evaluation is made.
    """
    shapes = _shapes(module, inputs) if inputs else {}
    rows = [("name", "module", "output", "parameters")]
    for name, m in module.named_modules():
        own = sum(getattr(m, p).size for p in m.params if getattr(m, p) is not None)
        title = type(m).__name__ if m.children() else repr(m)
        rows.append((name or "(itself)", title, shapes.get(id(m), ""), f"{own:,}" if own else ""))
    total = sum(p.size for p in module.parameters())
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"{a:{widths[0]}}  {b:{widths[1]}}  {c:{widths[2]}}  {d:>{widths[3]}}".rstrip()
        for a, b, c, d in rows
    ]
    return "\n".join([*lines, f"{total:,} parameters"])


def _shapes(module, inputs):
    """The output shape of every module, seen by wrapping each forward for one pass."""
    shapes = {}
    modules = module.modules()
    modes = [m.training for m in modules]

    def watch(m):
        forward = m.forward

        def watched(x):
            y = forward(x)
            shapes[id(m)] = _shape(y)
            return y

        m.forward = watched

    for m in modules:
        watch(m)
    try:
        module.eval()
        module(*inputs)
    finally:
        for m, mode in zip(modules, modes, strict=True):
            del m.forward
            m.training = mode
    return shapes


def _shape(y):
    if isinstance(y, tuple):
        return "(" + ", ".join(_shape(v) for v in y) + ")"
    return str(tuple(y.shape))
