"""Recurrent layers against PyTorch eager: a training step and inference, in turn, in one run.

    python tests/bench/recurrent.py [--batch N] [--steps N] [--threads N] [--runs N] [NAME …]

A training step is forward, backward to all parameters and SGD with momentum; its input wants no
gradient. Medians and best of interleaved runs; ratio: PyTorch's time to ours, above 1 flambeau is
the faster. On a busy machine the best times say more. Before each run the other library's threads
get the time to stop spinning.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from flambeau import nn
from flambeau.kernels.cpu import native

NETS = {
    "LSTM 2x128": (nn.LSTM, torch.nn.LSTM, 128),
    "LSTM 2x512": (nn.LSTM, torch.nn.LSTM, 512),
    "GRU 2x128": (nn.GRU, torch.nn.GRU, 128),
    "GRU 2x512": (nn.GRU, torch.nn.GRU, 512),
    "RNN 2x128": (nn.RNN, torch.nn.RNN, 128),
    "RNN 2x512": (nn.RNN, torch.nn.RNN, 512),
}


def measure(functions, runs):
    """The median and best times in ms of functions called in turn, after one warm-up each."""
    times = [[] for _ in functions]
    for run in range(runs + 1):
        for function, found in zip(functions, times, strict=True):
            time.sleep(0.05)
            start = time.perf_counter()
            function()
            if run:
                found.append(1e3 * (time.perf_counter() - start))
    return [(statistics.median(found), min(found)) for found in times]


def training(net, theirs, x):
    """Our training step and PyTorch's."""
    net.want_dx = False
    sgd = nn.optim.SGD(net, lr=1e-3, momentum=0.9)
    their_sgd = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9)
    dy = np.full((*x.shape[:2], net.hidden_size), 1e-3, "f4")
    t, dt = torch.from_numpy(x), torch.from_numpy(dy)

    def ours():
        net(x)
        net.zero_grad()
        net.backward(x, (dy, None))
        sgd.step()

    def torchs():
        y, _ = theirs(t)
        their_sgd.zero_grad()
        y.backward(dt)
        their_sgd.step()

    return ours, torchs


def inference(net, theirs, x):
    """Our forward pass and PyTorch's."""
    net.eval(), theirs.eval()
    t = torch.from_numpy(x)
    return lambda: net(x), torch.inference_mode()(lambda: theirs(t))


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETS))
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    native.lib.set_threads(options.threads)
    print(f"batch {options.batch}, {options.steps} steps, {options.threads} threads, {native.isa}")
    print(
        f"{'':24}" + 2 * f" {'flambeau':>9} {'PyTorch':>9} {'ratio':>6}" + "   (ms; median, best)"
    )
    for name in options.names or NETS:
        kind, their_kind, size = NETS[name]
        for work in (training, inference):
            net, theirs = kind(size, size, 2), their_kind(size, size, 2)
            state = {k: torch.from_numpy(v.copy()) for k, v in net.state_dict().items()}
            theirs.load_state_dict(state)
            shape = options.steps, options.batch, size
            x = np.random.default_rng(0).normal(size=shape).astype("f4")
            found = zip(*measure(work(net, theirs, x), options.runs), strict=True)
            columns = [f" {a:9.1f} {b:9.1f} {b / a:6.2f}" for a, b in found]
            print(f"{f'{name} {work.__name__}':24}" + "".join(columns), flush=True)


if __name__ == "__main__":
    main()
