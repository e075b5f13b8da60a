"""Where the time of a network goes."""

import math
import statistics
import time

from flambeau import kernels
from flambeau.kernels.reference.conv import output_size
from flambeau.nn.conv import Conv2d, ConvTranspose2d
from flambeau.nn.fused import ChainedConv2d, FusedConv2d, JoinedConv2d, PooledConv2d, grid
from flambeau.nn.linear import Linear
from flambeau.nn.recurrent import Recurrent
from flambeau.nn.summary import aligned, evaluating, parameters_of, shape_of, watching

HEADS = "name module output parameters multiply-adds forward backward share GFLOP/s memory".split()
MERGED = ChainedConv2d, JoinedConv2d, PooledConv2d  # what is inside of them does not run by itself


def profile(net, *inputs, backward=False, repeats=5):
    """The time of each module, medians of several passes, as a `Profile` that prints as a table.

    Passes are made in evaluation, or with `backward` in training, by a copy of the network, whose
    parameters, gradients and statistics stay as they are. A module that runs several times in a
    pass counts with the sum. Times of containers include what is inside.

    >>> import numpy as np
    >>> from flambeau import nn
    >>> found = profile(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), np.ones((2, 4), "f4"))
    >>> [(row.name, row.output, row.multiply_adds) for row in found.rows]
    [('0', '(2, 8)', 64), ('1', '(2, 8)', 0)]
    """
    if not isinstance(repeats, int) or repeats < 1:
        raise ValueError(f"profile(repeats={repeats!r}): must be a positive integer")
    if not inputs:
        raise TypeError("profile(net, x): needs an input")
    x = tuple(kernels.asarray(v) for v in inputs)
    x = x if len(x) > 1 else x[0]
    watch = Watch(net.clone().train() if backward else net)
    for _ in range(repeats + 1):  # the first pass packs weights and takes memory
        watch.run(x, backward)
    return watch.found(backward)


class Row:
    """One module: name, module, depth, output (shape), parameters, multiply_adds, memory (bytes of
    the output), algorithm ("" but for convolutions on a CPU); forward and backward in ms."""

    def __init__(self, name, module):
        self.name, self.module, self.depth = name, module, name.count(".")
        inside = [module, *(module if isinstance(module, MERGED) else ())]
        self.output, self.algorithm, self.parameters = "", "", sum(map(parameters_of, inside))
        self.multiply_adds = self.memory = 0
        self.forward = self.backward = 0.0
        self.container = len(inside) == 1 and bool(module.children())

    def __repr__(self):
        return f"Row({self.name!r}, {self.forward:.3f} ms)"

    def cells(self, total):
        """What stands in the table."""
        title = type(self.module).__name__ if self.module.children() else repr(self.module)
        rate = 2e-6 * self.multiply_adds / self.forward if self.forward else 0
        spent = self.forward + self.backward
        return (
            "  " * self.depth + self.name,
            title + (f" [{self.algorithm}]" if self.algorithm else ""),
            self.output,
            f"{self.parameters:,}" if self.parameters else "",
            f"{self.multiply_adds:,}" if self.multiply_adds else "",
            f"{self.forward:.3f}",
            f"{self.backward:.3f}",
            "" if self.container or not total else f"{100 * spent / total:.1f}%",
            f"{rate:.1f}" if rate else "",
            f"{self.memory / 1024:,.1f} KiB",
        )


class Profile:
    """What `profile` found: rows, a list of Row for all modules but the network itself, and total,
    the Row of the network; prints as a table, times in ms."""

    def __init__(self, rows, total, backward):
        self.rows, self.total, self.with_backward = rows, total, backward

    def __repr__(self):
        whole = self.total.forward + self.total.backward
        rows = [HEADS] + [row.cells(whole) for row in self.rows]
        leaves = [row for row in self.rows if not row.container] or [self.total]
        rows.append(self._last(leaves))
        left = [i for i in range(len(HEADS)) if self.with_backward or HEADS[i] != "backward"]
        sides = "<<<>>>>>>>"
        picked = [[row[i] for i in left] for row in rows]
        return "\n".join(aligned(picked, [sides[i] for i in left]))

    def _last(self, leaves):
        work = sum(row.multiply_adds for row in leaves)
        total = self.total
        return (
            "total",
            type(total.module).__name__,
            total.output,
            f"{sum(p.size for p in total.module.parameters()):,}",
            f"{work:,}",
            f"{total.forward:.3f}",
            f"{total.backward:.3f}",
            "100.0%",
            f"{2e-6 * work / total.forward:.1f}" if total.forward else "",
            f"{sum(row.memory for row in leaves) / 1024:,.1f} KiB",
        )


class Watch:
    """Runs a network and gathers what its modules do."""

    def __init__(self, net):
        self.net = net
        inside = {id(part) for kind in MERGED for merged in net.find(kind) for part in merged}
        named = [(name, m) for name, m in net.named_modules() if id(m) not in inside]
        self.rows = {id(m): Row(name, m) for name, m in named}
        self.passes = []  # of each pass {(id of the module, "forward" or "backward"): ms}

    def run(self, x, backward):
        """One pass."""
        modules, self.spent = [row.module for row in self.rows.values()], {}
        if not backward:
            with evaluating(self.net), watching(modules, "forward", self.forward_seen):
                self.net.forward(x)
        else:
            with watching(modules, "forward", self.forward_seen):
                y = self.net.forward(x)
            dy = _ones(y)
            with watching(modules, "backward", self.backward_seen):
                self.net.backward(x, dy)
        self.passes.append(self.spent)

    def forward_seen(self, module, arguments, y, start):
        self.count(module, "forward", y, start)
        if not self.passes:  # once, in the first pass
            row = self.rows[id(module)]
            row.output, row.algorithm = shape_of(y), algorithm(module, arguments[0])
            row.multiply_adds += multiply_adds(module, arguments[0], y)
            row.memory += size_of(y)

    def backward_seen(self, module, arguments, dx, start):
        self.count(module, "backward", dx, start)

    def count(self, module, method, result, start):
        """Add the time since start, after all work on a GPU is done."""
        _wait(result)
        key = id(module), method
        self.spent[key] = self.spent.get(key, 0) + 1e3 * (time.perf_counter() - start)

    def found(self, backward):
        """The Profile of all passes but the first."""
        for key, row in self.rows.items():
            for method in ("forward", "backward"):
                times = [spent.get((key, method), 0.0) for spent in self.passes[1:]]
                setattr(row, method, statistics.median(times))
        total, *rows = self.rows.values()
        return Profile(rows, total, backward)


def multiply_adds(module, x, y):
    """The multiply-adds of a module's products of matrices and convolutions, x -> y."""
    if isinstance(module, ChainedConv2d):
        first, *rest = module
        x = x[0] if module.adds else x
        between = output_size(x.shape[2:], first.weight.shape[2:], *first.options[:3])
        pixels, windows = (len(x) * h * w for h, w in (between, y.shape[2:]))
        return pixels * first.weight.size + windows * sum(m.weight.size for m in rest)
    if isinstance(module, JoinedConv2d):
        return math.prod(y.shape) // y.shape[1] * sum(m.weight.size for m in module)
    if isinstance(module, PooledConv2d):
        return len(x) * math.prod(grid(module[0], x)) * module[0].weight.size
    if isinstance(module, (Linear, Conv2d, FusedConv2d)):
        return math.prod(y.shape) * (module.weight.size // len(module.weight))
    if isinstance(module, ConvTranspose2d):
        return math.prod(x.shape) * (module.weight.size // len(module.weight))
    if isinstance(module, Recurrent):
        sequence = x[0] if isinstance(x, tuple) else x
        weights = (getattr(module, name) for name in module.params)
        size = sum(w.size for w in weights if w is not None and len(w.shape) == 2)
        return sequence.shape[0] * sequence.shape[1] * size
    return 0


def algorithm(module, x):
    """The name of the algorithm by which the C kernels compute a convolution, else ""."""
    if isinstance(module, JoinedConv2d):
        return " + ".join(algorithm(m, part) for m, part in zip(module, x, strict=True))
    if isinstance(module, ChainedConv2d):
        return "chained"
    if isinstance(module, PooledConv2d):
        return algorithm(module[0], x)
    if isinstance(module, Conv2d):
        options = module.stride, module.padding, module.dilation, module.groups
    elif isinstance(module, FusedConv2d):
        options, x = module.options, x[0] if module.adds else x
    else:
        return ""
    package = kernels.of(x)
    if not package.__name__.endswith(".cpu"):
        return ""
    return package.conv.algorithm(x, module.weight, *options)


def size_of(y):
    """The bytes of an array, or of all arrays of a tuple."""
    if isinstance(y, tuple):
        return sum(size_of(v) for v in y)
    return math.prod(y.shape) * y.dtype.itemsize


def _ones(y):
    if isinstance(y, tuple):
        return tuple(_ones(v) for v in y)
    dy = kernels.of(y).zeros(y, y.shape, y.dtype)
    kernels.of(y).fill(dy, 1)
    return dy


def _wait(y):
    """Return when y is computed: one element of it is read."""
    while isinstance(y, tuple) and y:
        y = y[-1]
    if y is None or isinstance(y, tuple) or kernels.device(y) == "cpu" or not y.size:
        return
    kernels.of(y).numpy(y[tuple(slice(0, 1) for _ in y.shape)])
