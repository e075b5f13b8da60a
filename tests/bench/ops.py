"""Layers, losses and optimisers against PyTorch eager, op by op, in turn in one run.

    python tests/bench/ops.py [--seconds N] [NAME …]

NAME is the beginning of names. Milliseconds, medians, each in its better format: contiguous, or
channels-last (last) for images. PyTorch's optimisers: one tensor at a time or fused, the better
one. "both" is forward and then backward: there PyTorch keeps in the forward pass what we compute
again in the backward pass. Outputs and gradients are compared before times are.

ratio: PyTorch's time to ours by the medians and, in brackets, by the best runs; above 1 flambeau
is the faster. copy: bytes a second in per cent of those of a copy in the same run. Counted is what
has to be moved: inputs, weights, outputs and their gradients, each once, whatever an implementation
really moves. More than 100% is possible: what is still in a cache need not come from memory.
"""

import argparse
import copy
from typing import NamedTuple

import numpy as np
import torch
from engines import agree
from peers import peer
from timing import copying, measure, ratio

from flambeau import kernels, nn, nngraph
from flambeau.kernels.cpu import native
from flambeau.zoo import models

IMAGES = 8, 64, 56, 56
CLASSES = 1024, 1000
WORDS = 64, 64
NARROW = 8, 24, 56, 56
PHOTOGRAPHS = 8, 3, 224, 224
SEGMENTS = 8, 21, 112, 112
FORMATS = {"contiguous": torch.contiguous_format, "last": torch.channels_last}
TWICE = "forward", "backward"
ALL = *TWICE, "both"


class Op(NamedTuple):
    """A module or loss of ours, the shapes of its inputs, and the same in PyTorch (None: peer)."""

    module: object
    shapes: list
    theirs: object = None
    passes: tuple = TWICE


def halves(t):
    """ReLU of each half of the channels."""
    return tuple(torch.relu(half) for half in t.chunk(2, 1))


def residual(module):
    """What a module gives, and what came in."""
    return lambda t: module(t) + t


def sum_over(axis):
    """The sum over an axis."""
    return lambda t: t.sum(axis)


def max_over(axis):
    """The greatest over an axis; the first of equals gets the gradient."""
    return lambda t: t.max(axis).values


def norm_pair():
    """The ReLU of the sum of two normalisations, as a graph, and the same in PyTorch."""
    inputs = nngraph.inputs("one two")
    one, two = (nn.BatchNorm2d(64)(x) for x in inputs)
    norms = torch.nn.BatchNorm2d(64), torch.nn.BatchNorm2d(64)
    graph = nngraph.Graph(inputs, nn.Identity()(nn.ReLU()(one + two)))
    return graph, lambda t, u: torch.relu(norms[0](t) + norms[1](u))


SPLIT = nn.Sequential(nn.Chunk(2), nn.ParallelTable(nn.ReLU(), nn.ReLU()))
# in training each is one step; what comes last is not, for its result is the caller's
NORM_RELU = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(), nn.Identity())
NORM_POOL = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Identity())
NORM_PAIR = norm_pair()
CONV_RELU = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.Identity())
RELU_POOL = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Identity())
LINEAR_RELU = nn.Sequential(nn.Linear(2048, 1000), nn.ReLU(), nn.Identity())
EXPAND = nn.Sequential(nn.Conv2d(24, 144, 1), nn.ReLU6(), nn.Conv2d(144, 144, 3, 1, 1, groups=144))
CHAIN = nngraph.optimize(EXPAND.eval())
PROJECT = nn.Sequential(*EXPAND, nn.ReLU6(), nn.Conv2d(144, 24, 1))
BOTTLENECK = nngraph.optimize(
    nn.Sequential(nn.ConcatTable(PROJECT, nn.Identity()), nn.Add()).eval()
)
HALVED = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
POOLED = nngraph.optimize(HALVED.eval())
CROSS_ENTROPY = nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss()
MSE = nn.MSELoss(), torch.nn.MSELoss()
OPS = {
    "batch norm": Op(nn.BatchNorm2d(64), [IMAGES], passes=ALL),
    "batch norm and relu": Op(NORM_RELU, [IMAGES], passes=ALL),
    "batch norm, relu and max pool 3/2": Op(NORM_POOL, [IMAGES], passes=ALL),
    "two batch norms, add and relu": Op(NORM_PAIR[0], [IMAGES] * 2, NORM_PAIR[1], ALL),
    "batch norm, eval": Op(nn.BatchNorm2d(64).eval(), [IMAGES], passes=("forward",)),
    "max pool 3/2": Op(nn.MaxPool2d(3, 2, 1), [IMAGES]),
    "max pool 2/2": Op(nn.MaxPool2d(2), [IMAGES]),
    "relu and max pool 2/2": Op(RELU_POOL, [IMAGES], passes=ALL),
    "max pool, eval": Op(nn.MaxPool2d(3, 2, 1).eval(), [IMAGES], passes=("forward",)),
    "avg pool 3/2": Op(nn.AvgPool2d(3, 2, 1), [IMAGES]),
    "avg pool 2/2": Op(nn.AvgPool2d(2), [IMAGES]),
    "adaptive pool 1": Op(nn.AdaptiveAvgPool2d(1), [IMAGES]),
    "adaptive pool 6": Op(nn.AdaptiveAvgPool2d(6), [IMAGES]),
    "LRN 5": Op(nn.LocalResponseNorm(5), [IMAGES]),
    "relu": Op(nn.ReLU(), [IMAGES]),
    "sigmoid": Op(nn.Sigmoid(), [IMAGES], passes=ALL),
    "tanh": Op(nn.Tanh(), [IMAGES], passes=ALL),
    "elu": Op(nn.ELU(), [IMAGES]),
    "leaky relu": Op(nn.LeakyReLU(), [IMAGES]),
    "softplus": Op(nn.Softplus(), [IMAGES]),
    "gelu": Op(nn.GELU(), [IMAGES], passes=ALL),
    "silu": Op(nn.SiLU(), [IMAGES], passes=ALL),
    "softmax": Op(nn.Softmax(dim=1), [CLASSES], passes=ALL),
    "log softmax": Op(nn.LogSoftmax(dim=1), [CLASSES], passes=ALL),
    "softmax of images": Op(nn.Softmax(dim=1), [SEGMENTS], passes=ALL),
    "log softmax of images": Op(nn.LogSoftmax(dim=1), [SEGMENTS], passes=ALL),
    "cross entropy": Op(CROSS_ENTROPY[0], [CLASSES], CROSS_ENTROPY[1], ALL),
    "cross entropy of images": Op(CROSS_ENTROPY[0], [SEGMENTS], CROSS_ENTROPY[1], ALL),
    "mse": Op(MSE[0], [IMAGES, IMAGES], MSE[1], ALL),
    "dropout": Op(nn.Dropout(), [IMAGES], passes=ALL),
    "join": Op(nn.JoinTable(1), [IMAGES] * 2, passes=("forward",)),  # backward: views, no work
    "split and relu": Op(SPLIT, [IMAGES], halves),
    "add": Op(nn.Add(), [IMAGES] * 2, passes=("forward",)),  # backward: dy itself, no work
    "mul": Op(nn.Mul(), [IMAGES] * 2, torch.mul),
    # sums: PyTorch's backward is a view, no work
    "sum over axis 0": Op(nn.SumOver(0), [CLASSES], sum_over(0), ("forward",)),
    "sum over axis 1": Op(nn.SumOver(1), [CLASSES], sum_over(1), ("forward",)),
    "sum over channels": Op(nn.SumOver(1), [IMAGES], sum_over(1), ("forward",)),
    "max over axis 0": Op(nn.MaxOver(0), [CLASSES], max_over(0), ALL),
    "max over axis 1": Op(nn.MaxOver(1), [CLASSES], max_over(1), ALL),
    "max over channels": Op(nn.MaxOver(1), [IMAGES], max_over(1), ALL),
    "zero padding 1": Op(nn.ZeroPad2d(1), [IMAGES]),
    "depthwise 3x3": Op(nn.Conv2d(64, 64, 3, padding=1, groups=64), [IMAGES]),
    "depthwise 3x3/2": Op(nn.Conv2d(64, 64, 3, 2, 1, groups=64), [IMAGES]),
    "expand and depthwise 3x3": Op(CHAIN, [NARROW], peer(EXPAND), ("forward",)),
    "inverted bottleneck": Op(BOTTLENECK, [NARROW], residual(peer(PROJECT)), ("forward",)),
    "conv 3x3, relu, max pool": Op(POOLED, [IMAGES], peer(HALVED).eval(), ("forward",)),
    "conv 3x3 and relu": Op(CONV_RELU, [IMAGES], passes=ALL),
    "conv 3x3/2": Op(nn.Conv2d(64, 64, 3, 2, 1), [IMAGES]),
    "conv 1x1": Op(nn.Conv2d(64, 256, 1), [IMAGES]),
    "conv 7x7/2 of photographs": Op(nn.Conv2d(3, 64, 7, 2, 3), [PHOTOGRAPHS]),
    "transposed 4x4/2": Op(nn.ConvTranspose2d(64, 32, 4, 2, 1), [IMAGES]),
    "transposed 2x2/2": Op(nn.ConvTranspose2d(64, 32, 2, 2), [IMAGES]),
    "conv 1d, 3": Op(nn.Conv1d(64, 64, 3, padding=1), [(16, 64, 1024)]),
    "conv 3d, 3x3x3": Op(nn.Conv3d(16, 32, 3, padding=1), [(2, 16, 16, 28, 28)]),
    "embedding": Op(nn.Embedding(10000, 256), [WORDS]),
    "linear 64x1000x2048": Op(nn.Linear(2048, 1000), [(64, 2048)]),
    "linear 64x1000x2048 and relu": Op(LINEAR_RELU, [(64, 2048)], passes=ALL),
    "linear 8x4096x4096": Op(nn.Linear(4096, 4096), [(8, 4096)]),
}
OPTIMIZERS = {  # (ours, PyTorch's, options, arrays as large as the weights that are moved)
    "SGD, momentum": (nn.optim.SGD, torch.optim.SGD, {"lr": 1e-3, "momentum": 0.9}, 5),
    "Adam": (nn.optim.Adam, torch.optim.Adam, {"lr": 1e-3}, 7),
}


def normal(*shape):
    """A float32 array of normal numbers."""
    return np.random.default_rng(0).standard_normal(shape, "f4")


def inputs(op, memory_format):
    """Tensors to apply an op to; a loss gets its targets too."""
    if isinstance(op.module, nn.Embedding):
        numbers = np.random.default_rng(0).integers(op.module.num_embeddings, size=op.shapes[0])
        return [torch.from_numpy(numbers)]
    ts = [torch.from_numpy(normal(*shape)) for shape in op.shapes]
    ts = [t.to(memory_format=memory_format) if t.ndim == 4 else t for t in ts]
    if isinstance(op.module, nn.CrossEntropyLoss):
        n, c, *size = op.shapes[0]
        ts.append(torch.arange(n * int(np.prod(size))).reshape(n, *size) % c)
    if isinstance(op.module, nn.MSELoss):
        ts[1] = torch.roll(ts[1], 1, 0)
    return ts


def gradients(op, y):
    """What the backward pass starts from, as tensors: one for each output, of its format."""
    if isinstance(op.module, nn.loss.Loss):
        return (torch.ones_like(y),)
    return tuple(torch.cos(3 * y.detach()) for y in (y if isinstance(y, tuple) else (y,)))


def theirs(op, ts):
    """The passes of PyTorch, {pass: function}, and the gradients of its outputs."""
    module = op.theirs or peer(op.module).train(op.module.training)
    leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in ts]
    if isinstance(op.module, nn.MSELoss):
        leaves[1].requires_grad_(False)
    wanted = [t for t in leaves if t.requires_grad]
    wanted += module.parameters() if isinstance(module, torch.nn.Module) else []
    y = module(*leaves)
    dy = gradients(op, y)

    def backward(y=y, keep=True):
        return torch.autograd.grad(y, wanted, dy, retain_graph=keep)

    return {
        "forward": torch.inference_mode()(lambda: module(*ts)),
        "backward": backward,
        "both": lambda: backward(module(*leaves), keep=False),
    }, dy


def ours(op, ts, dy):
    """Our passes: {pass: function}."""
    module = copy.deepcopy(op.module)  # what it saves is of one format
    xs, dys = tuple(t.numpy() for t in ts), tuple(d.numpy() for d in dy)
    last = xs
    if not isinstance(module, nn.loss.Loss):
        last = (xs if len(xs) > 1 else xs[0]), (dys if len(dys) > 1 else dys[0])
    module(*xs)
    return {
        "forward": lambda: module(*xs),
        "backward": lambda: module.backward(*last),
        "both": lambda: (module(*xs), module.backward(*last))[1],
    }


def functions(op):
    """The passes in all formats: {pass: {(library, format): function}}."""
    found = {name: {} for name in op.passes}
    for name, memory_format in FORMATS.items():
        if name == "last" and len(op.shapes[0]) != 4:
            continue
        ts = inputs(op, memory_format)
        their_passes, dy = theirs(op, ts)
        our_passes = ours(op, ts, dy)
        for kind in op.passes:
            found[kind]["ours", name] = our_passes[kind]
            found[kind]["torch", name] = their_passes[kind]
    for kind, passes in found.items():
        if not isinstance(op.module, nn.Dropout) and (  # each draws a mask of its own
            kind == "forward" or not isinstance(op.module, nn.Embedding)  # adds to its weights' own
        ):
            agree({name: first(function()) for name, function in passes.items()})
    return found


def first(found):
    """The first array of an output or of gradients."""
    while isinstance(found, (list, tuple)):
        found = found[0]
    return found.detach() if isinstance(found, torch.Tensor) else found


def moved(op, kind):
    """Bytes that a pass has to move."""
    ts = inputs(op, torch.contiguous_format)
    ys = (op.theirs or peer(op.module))(*ts)
    x, y = (sum(t.nbytes for t in some) for some in (ts, ys if isinstance(ys, tuple) else (ys,)))
    if isinstance(op.module, nn.Embedding):  # only the rows that are looked up
        return {"forward": 2 * y, "backward": 3 * y}[kind]
    loss = isinstance(op.module, nn.loss.Loss)
    w, dx = (0, ts[0].nbytes) if loss else (sum(w.nbytes for w in op.module.parameters()), x)
    forward, backward = x + w + y, x + w + y + dx + 2 * w  # dw is added to: read and written
    return {"forward": forward, "backward": backward, "both": forward + backward}[kind]


def better(times, library):
    """The format with the least median of a library's, and its Time."""
    return min(((key[1], t) for key, t in times.items() if key[0] == library), key=lambda p: p[1])


def row(name, passes, count, options, limit):
    """Time functions in turn and print the row."""
    times = measure(passes, options.seconds)
    (our_format, fast), (their_format, best) = (better(times, lib) for lib in ("ours", "torch"))
    medians = f"{fast.median * 1e3:9.3f} {our_format:10}{best.median * 1e3:9.3f} {their_format:10}"
    part = count / fast.median / limit
    print(f"{name:32}{medians}{ratio(fast, best):>15}{part:7.0%}", flush=True)


def optimizers(kind, their_kind, given):
    """Steps of an optimiser on the 25 million weights of a ResNet-50: functions to time."""
    net = models.build("resnet50")
    for gradient in net.gradients():
        gradient[...] = 1e-3
    found = {("ours", ""): kind(net, **given).step}
    for fused in False, True:
        parameters = list(peer(net).parameters())
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
        step = their_kind(parameters, **given, fused=fused).step
        found["torch", "fused" if fused else ""] = step
    return found, sum(w.nbytes for w in net.parameters())


def clearing():
    """Gradients of a ResNet-50 set to zero: functions to time, and bytes of the gradients."""
    net = models.build("resnet50")
    parameters = list(peer(net).parameters())
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer = torch.optim.SGD(parameters, lr=1e-3)
    found = {("ours", ""): net.zero_grad}
    found["torch", ""] = lambda: optimizer.zero_grad(set_to_none=False)
    return found, sum(g.nbytes for g in net.gradients())


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*OPS, *OPTIMIZERS]))
    parser.add_argument("--seconds", type=float, default=2.0, help="to time a row for")
    options = parser.parse_args()
    torch.set_num_threads(kernels.get_num_threads())
    limit, prefixes = copying(), tuple(options.names) or ""
    print(f"{kernels.get_num_threads()} threads, {native.isa}, PyTorch {torch.__version__}", end="")
    print(f", 100% = {limit / 1e9:.1f} GB/s")
    print(f"{'ms (medians)':32}{'ours':>9}{'PyTorch':>20}{'ratio':>26}{'copy':>7}")
    for name, op in OPS.items():
        if name.startswith(prefixes):
            for kind, passes in functions(op).items():
                row(f"{name} {kind}", passes, moved(op, kind), options, limit)
    for name, (*kinds, arrays) in OPTIMIZERS.items():
        if name.startswith(prefixes):
            steps, size = optimizers(*kinds)
            row(name, steps, arrays * size, options, limit)
    if "zero_grad".startswith(prefixes):
        row("zero_grad", *clearing(), options, limit)


if __name__ == "__main__":
    main()
