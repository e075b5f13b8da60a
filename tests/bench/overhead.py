"""What a call costs where there is little to compute, against PyTorch eager.

    python tests/bench/overhead.py [--seconds N]

A training step of a perceptron 64-64-64-10 at batch 32: forward, the loss's value, backward, SGD
with momentum; and a forward pass of one layer at that batch. Microseconds, medians. PyTorch's best
optimiser counts, plain, foreach or fused; losses and outputs are compared before times are. ratio:
PyTorch's time to ours by the medians and, in brackets, by the best turns; above 1 flambeau is the
faster.
"""

import argparse

import numpy as np
import torch
from engines import agree
from peers import peer
from timing import Time, measure, quickest, ratio

from flambeau import kernels, nn
from flambeau.kernels.cpu import native

BATCH, CLASSES = 32, 10
OPTIMISERS = {
    "plain": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def perceptron():
    """The network, with the same weights each time."""
    nn.seed(0)
    layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, CLASSES))


def training(x):
    """Training steps that return their loss: {column: function}."""
    net, target = perceptron(), np.arange(BATCH) % CLASSES
    theirs = {name: step(peer(net), x, target, how) for name, how in OPTIMISERS.items()}
    net.want_dx = False
    loss, sgd = nn.CrossEntropyLoss(), nn.optim.SGD(net, lr=1e-3, momentum=0.9)

    def ours():
        y = net(x)
        value = loss(y, target)
        net.zero_grad()
        net.backward(x, loss.backward(y, target))
        sgd.step()
        return value

    return {"ours": ours} | theirs


def step(net, x, target, how):
    """A function that does PyTorch's training step and returns the loss."""
    criterion = torch.nn.CrossEntropyLoss()
    sgd = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9, **how)
    t, t_target = torch.from_numpy(x), torch.from_numpy(target)

    def run():
        sgd.zero_grad()
        loss = criterion(net(t), t_target)
        loss.backward()
        sgd.step()
        return loss.item()

    return run


def inference(layer, x):
    """A forward pass of one layer: {column: function}."""
    theirs, t = peer(layer).eval(), torch.from_numpy(x)
    layer.eval()
    return {"ours": lambda: layer(x), "eager": torch.inference_mode()(lambda: theirs(t))}


def repeated(function, times):
    """A function that calls function that many times, for one call is too short to be timed."""

    def run():
        for _ in range(times):
            function()

    return run


def row(name, functions, calls, seconds):
    """Compare what the functions return, time them and print the row."""
    for _ in range(5):
        agree({column: function() for column, function in functions.items()})
    found = measure({c: repeated(f, calls) for c, f in functions.items()}, seconds)
    times = {c: Time(t.median / calls, t.best / calls) for c, t in found.items()}
    best = quickest(times, [c for c in times if c != "ours"])
    which = min((c for c in times if c != "ours"), key=lambda c: times[c].median)
    print(f"{name:32}{times['ours'].median * 1e6:9.1f}{best.median * 1e6:9.1f}", end="")
    print(f"  {which:8}{ratio(times['ours'], best):>15}", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="to time a row for")
    options = parser.parse_args()
    threads = kernels.get_num_threads()
    torch.set_num_threads(threads)
    x = np.random.default_rng(0).normal(size=(BATCH, 64)).astype("f4")
    print(f"batch {BATCH}, {threads} threads, {native.isa}, PyTorch {torch.__version__}")
    print(f"{'us (medians)':32}{'ours':>9}{'PyTorch':>9}  {'':8}{'ratio':>15}")
    row("training step of 64-64-64-10", training(x), 100, options.seconds)
    row("Linear(64, 64)", inference(nn.Linear(64, 64), x), 1000, options.seconds)
    row("ReLU()", inference(nn.ReLU(), x), 1000, options.seconds)


if __name__ == "__main__":
    main()
