"""What more threads bring: the same work on one thread and on all, in turn in one process.

    python tests/bench/scaling.py [--seconds N] [NAME …]

Milliseconds, medians; speed-up: the time on one thread to that on all by the medians and, in
brackets, by the best runs. The last column is PyTorch's speed-up at the same work, eager, by the
medians: it tells what the processor gives, whose cores may be two threads of one.
"""

import argparse

import networks
import numpy as np
import recurrent
import torch
from timing import measure, ratio

from flambeau import kernels, nn, nngraph
from flambeau.kernels.cpu import native

NAMES = ["vgg16", "resnet50", "product 1024", "product 2048", "LSTM 2x512"]


def network(name):
    """Inference at batch 8, ours optimized: our function and PyTorch's."""
    net = networks.build(name).eval()
    x = np.random.default_rng(0).normal(size=(8, 3, 224, 224)).astype("f4")
    theirs = networks.eager(net, x, torch.channels_last)
    optimized = nngraph.optimize(net)
    return lambda: optimized(x), theirs


def product(n):
    """x Wᵀ of two square matrices: our function and PyTorch's."""
    x, w = np.random.default_rng(0).normal(size=(2, n, n)).astype("f4")
    t, t_w = torch.from_numpy(x), torch.from_numpy(w)
    linear = torch.inference_mode()(lambda: torch.nn.functional.linear(t, t_w))
    return lambda: kernels.cpu.linear(x, w, None), linear


def lstm(size):
    """A training step, batch 50, 50 steps: our function and PyTorch's."""
    x = np.random.default_rng(0).normal(size=(50, 50, size)).astype("f4")
    return recurrent.training(nn.LSTM(size, size, 2), torch.nn.LSTM(size, size, 2), x)


def work(name):
    """Our function and PyTorch's of a row."""
    kind, _, size = name.partition(" ")
    if kind == "product":
        return product(int(size))
    return lstm(512) if kind == "LSTM" else network(name)


def on(threads, function, set_threads):
    """The function on that many threads."""

    def run():
        set_threads(threads)
        function()

    return run


def row(name, threads, seconds):
    """Time one piece of work on one thread and on all, and print its row."""
    ours, theirs = work(name)
    functions = {n: on(n, ours, kernels.set_num_threads) for n in (1, threads)}
    functions |= {f"PyTorch {n}": on(n, theirs, torch.set_num_threads) for n in (1, threads)}
    one, all_threads, their_one, their_all = measure(functions, seconds).values()
    print(f"{name:20}{one.median * 1e3:10.1f}{all_threads.median * 1e3:10.1f}", end="")
    print(f"{ratio(all_threads, one):>16}{their_one.median / their_all.median:9.2f}", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=12.0, help="to time a row for")
    options = parser.parse_args()
    threads = kernels.get_num_threads()
    if threads == 1:
        parser.exit(message="left out: there is only one thread\n")
    print(f"float32, {native.isa}, PyTorch {torch.__version__}")
    columns = f"{'1 thread':>10}{f'{threads}':>10}{'speed-up':>16}{'PyTorch':>9}"
    print(f"{'ms (medians)':20}{columns}")
    for name in options.names or NAMES:
        row(name, threads, options.seconds)


if __name__ == "__main__":
    main()
