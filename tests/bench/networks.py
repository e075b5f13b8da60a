"""Whole networks against PyTorch, at its best setting of those tried, in turn in one run.

    python tests/bench/networks.py [--batch N] [--threads N] [--train] [NAME …]

Inference: ours as loaded and after nngraph.optimize, PyTorch eager, eager with channels-last
memory, and traced, frozen and optimised. A training step: forward, backward, SGD with momentum.
ratio: PyTorch's best median to ours; above 1 flambeau is the faster. rate: of ours, in per cent of
what NumPy's matrix product of 1024 squared reaches in the same run.
"""

import argparse
import platform
import time
import warnings

import numpy as np
import torch
from peers import medians, peer

from flambeau import kernels, nn, nngraph
from flambeau.kernels.cpu import native
from flambeau.zoo import models

NAMES = ["squeezenet1_0", "resnet18", "resnet50", "vgg16", "alexnet", "efficientnet_lite0"]


def inference(net, x):
    """Functions to time: {column: function}."""
    fast = nngraph.optimize(net.eval())
    theirs, last = peer(net).eval(), peer(net).eval().to(memory_format=torch.channels_last)
    t = torch.from_numpy(x)
    t_last = t.to(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and still a fast way
        frozen = torch.jit.optimize_for_inference(torch.jit.trace(theirs, t))
    return {
        "ours": lambda: net(x),
        "optimized": lambda: fast(x),
        "eager": lambda: theirs(t),
        "last": lambda: last(t_last),
        "frozen": lambda: frozen(t),
    }


def training(net, x):
    """Functions to time: {column: function}."""
    net.train()
    net.want_dx = False
    target = np.arange(len(x)) % 10
    loss, sgd = nn.CrossEntropyLoss(), nn.optim.SGD(net, lr=1e-3, momentum=0.9)

    def ours():
        y = net(x)
        net.zero_grad()
        net.backward(x, loss.backward(y, target))
        sgd.step()

    def step(memory_format):
        theirs = peer(net).train().to(memory_format=memory_format)
        criterion = torch.nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9)
        t, t_target = torch.from_numpy(x).to(memory_format=memory_format), torch.from_numpy(target)

        def run():
            optimizer.zero_grad()
            criterion(theirs(t), t_target).backward()
            optimizer.step()

        return run

    formats = {"eager": torch.contiguous_format, "last": torch.channels_last}
    return {"ours": ours} | {name: step(f) for name, f in formats.items()}


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


def sgemm():
    """Multiply-adds a second of NumPy's float32 matrix product."""
    a = np.ones((1024, 1024), "f4")
    return 1024**3 / medians(lambda: a @ a, runs=9)[0]


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels.set_num_threads(options.threads)
    title = "training step" if options.train else "inference"
    print(
        f"{title}, batch {options.batch}, 224 x 224, float32, {options.threads} threads, "
        f"{platform.machine()} {native.isa}, PyTorch {torch.__version__}, {time.strftime('%F')}"
    )
    columns = ["eager", "last"] if options.train else ["optimized", "eager", "last", "frozen"]
    print(f"{'ms (medians)':20} {'ours':>9}" + "".join(f"{c:>10}" for c in columns), end="")
    print(f"{'ratio':>8}{'rate':>7}")
    for name in options.names or NAMES:
        nn.seed(0)
        net = models.build(name)
        x = np.random.default_rng(0).normal(size=(options.batch, 3, 224, 224)).astype("f4")
        count = work(net.eval(), x) * (3 if options.train else 1)
        functions = (training if options.train else inference)(net, x)
        with torch.inference_mode(not options.train):
            times = dict(zip(functions, medians(*functions.values()), strict=True))
        ours = min(times["ours"], times.get("optimized", np.inf))
        best = min(times[c] for c in columns if c != "optimized")
        print(f"{name:20} {times['ours'] * 1e3:9.1f}", end="")
        print("".join(f"{times[c] * 1e3:10.1f}" for c in columns), end="")
        print(f"{best / ours:8.2f}{count / ours / sgemm():7.0%}", flush=True)


if __name__ == "__main__":
    main()
