"""Whole networks against PyTorch, ONNX Runtime and OpenVINO, in turn in one run.

    python tests/bench/networks.py [--batch N] [--train] [--compile] [--seconds N] [NAME …]

Milliseconds, medians. Inference: ours as loaded and after nngraph.optimize; PyTorch eager, eager
with channels-last memory, traced and frozen, and compiled if asked for; ONNX Runtime (all graph
optimisations); OpenVINO (latency, float32). A training step: forward, backward, SGD with momentum;
ours by the network itself, and from recordings (nngraph.Recorded), whose backward passes replace
the gradients, as PyTorch's do after its zero_grad.
Outputs are compared before times are.

/eager: the time of PyTorch eager in its better format to ours, /best: that of the best peer; by the
medians and, in brackets, by the best runs; above 1 flambeau is the faster. rate: our multiply-adds,
counted as in the direct algorithm, in per cent of NumPy's matrix product in the same run.
"""

import argparse
import importlib.util
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch
from engines import agree, compiled, exported, frozen, onnxruntime, openvino
from peers import peer
from timing import measure, quickest, ratio, sgemm

from flambeau import kernels, nn, nngraph, zoo
from flambeau.kernels.cpu import native
from flambeau.zoo import models

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FLAMBEAU_DATA", ROOT.parent / "shared" / "data"))
GOOGLENET = DATA / "caffe/prototxt/bvlc_googlenet_deploy.prototxt"
NAMES = [
    "squeezenet1_0",
    "googlenet",
    "efficientnet_lite0",
    "alexnet",
    "resnet18",
    "resnet50",
    "vgg16",
]
FORMATS = {"eager": torch.contiguous_format, "last": torch.channels_last}
OURS = "ours", "optimized", "recorded"
ENGINES = {  # those that are installed
    column: engine
    for column, engine in {"onnxrt": onnxruntime, "openvino": openvino}.items()
    if importlib.util.find_spec(engine.__name__)
}


def build(name):
    """A network with fresh weights, the same ones each time."""
    nn.seed(0)
    return zoo.load(GOOGLENET) if name == "googlenet" else models.build(name)


def inference(net, x, with_compiled):
    """Functions to time: {column: function}."""
    optimized = nngraph.optimize(net.eval())
    functions = {"ours": lambda: net(x), "optimized": lambda: optimized(x)}
    for column, memory_format in FORMATS.items():
        functions[column] = eager(net, x, memory_format)
    theirs, t = peer(net).eval(), torch.from_numpy(x)
    functions["frozen"] = frozen(theirs, t)
    if with_compiled:
        last = {"memory_format": torch.channels_last}
        functions["compiled"] = compiled(peer(net).eval().to(**last), t.to(**last))
    file = exported(theirs, t)
    functions |= {column: engine(file, x) for column, engine in ENGINES.items()}
    agree({name: function() for name, function in functions.items()})
    return functions


def eager(net, x, memory_format):
    """A function that runs PyTorch's network in evaluation."""
    theirs = peer(net).eval().to(memory_format=memory_format)
    t = torch.from_numpy(x).to(memory_format=memory_format)
    return torch.inference_mode()(lambda: theirs(t))


def training(net, x, _):
    """Functions to time: {column: function}."""
    net.eval()
    agree({"ours": net(x)} | {name: eager(net, x, f)() for name, f in FORMATS.items()})
    target = np.arange(len(x)) % 10
    ours = {"ours": our_step(net.train(), x, target)}
    ours["recorded"] = our_step(nngraph.Recorded(net), x, target)
    for _ in range(3):
        ours["recorded"]()  # the second is written down, which takes as long as some
    return ours | {name: step(net, x, target, f) for name, f in FORMATS.items()}


def our_step(net, x, target):
    """A function that does our training step, wherever the arrays are."""
    net.want_dx = False
    net.backward_once = True  # as in PyTorch
    loss, sgd = nn.CrossEntropyLoss(), nn.optim.SGD(net, lr=1e-3, momentum=0.9)
    recorded = isinstance(net, nngraph.Recorded)
    if recorded:
        net.accumulates = False

    def run():
        if not recorded:
            net.zero_grad()
        y = net(x)
        net.backward(x, loss.backward(y, target))
        sgd.step()

    return run


def step(net, x, target, memory_format):
    """A function that does PyTorch's training step."""
    theirs = peer(net).train().to(memory_format=memory_format)
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9)
    t, t_target = torch.from_numpy(x).to(memory_format=memory_format), torch.from_numpy(target)

    def run():
        optimizer.zero_grad()
        criterion(theirs(t), t_target).backward()
        optimizer.step()

    return run


def work(net, x):
    """Multiply-adds of the convolutions and matrix products of one forward pass."""
    total = 0
    layers = net.find((nn.Conv2d, nn.Linear))
    for layer in layers:
        forward = layer.forward

        def counted(x, layer=layer, forward=forward):
            nonlocal total
            y = forward(x)
            total += y.size * layer.weight[0].size
            return y

        layer.forward = counted
    net(x)
    for layer in layers:
        del layer.forward
    return total


def row(name, options):
    """Time one network and print its row."""
    net = build(name)
    x = np.random.default_rng(0).normal(size=(options.batch, 3, 224, 224)).astype("f4")
    count = work(net.eval(), x) * (3 if options.train else 1)
    functions = (training if options.train else inference)(net, x, options.compile)
    times = measure(functions, options.seconds)
    ours = quickest(times, [c for c in times if c in OURS])
    ratios = [ratio(ours, quickest(times, list(FORMATS)))]
    ratios.append(ratio(ours, quickest(times, [c for c in times if c not in OURS])))
    print(f"{name:20}" + "".join(f"{t.median * 1e3:10.1f}" for t in times.values()), end="")
    print(f"{ratios[0]:>16}{ratios[1]:>16}{count / ours.median / sgemm():7.0%}", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="a training step")
    parser.add_argument("--compile", action="store_true", help="torch.compile too: takes minutes")
    parser.add_argument("--seconds", type=float, default=20.0, help="to time a network for")
    options = parser.parse_args()
    torch.set_num_threads(kernels.get_num_threads())
    title = "training step" if options.train else "inference"
    print(
        f"{title}, batch {options.batch}, 224 x 224, float32, {kernels.get_num_threads()} threads, "
        f"{platform.machine()} {native.isa}, PyTorch {torch.__version__}, {time.strftime('%F')}"
    )
    columns = ["ours", "recorded" if options.train else "optimized"]
    columns += list(FORMATS)
    if not options.train:
        columns += ["frozen", *["compiled"] * options.compile, *ENGINES]
    print(f"{'ms (medians)':20}" + "".join(f"{c:>10}" for c in columns), end="")
    print(f"{'/eager':>16}{'/best':>16}{'rate':>7}")
    for name in options.names or NAMES:
        if name == "googlenet" and not GOOGLENET.exists():
            print(f"{name:20} left out: there is no {GOOGLENET}")
        else:
            row(name, options)


if __name__ == "__main__":
    main()
