"""Recurrent layers against PyTorch eager: a training step and inference, in turn, in one run.

    python tests/bench/recurrent.py [--batch N] [--steps N] [--seconds N] [NAME …]

A training step is forward, backward to all parameters and SGD with momentum; its input wants no
gradient. Milliseconds, medians; ratio: PyTorch's time to ours by the medians and, in brackets, by
the best runs; above 1 flambeau is the faster.
"""

import argparse

import numpy as np
import torch
from timing import measure, ratio

from flambeau import kernels, nn
from flambeau.kernels.cpu import native

NETS = {
    "LSTM 2x128": (nn.LSTM, torch.nn.LSTM, 128),
    "LSTM 2x512": (nn.LSTM, torch.nn.LSTM, 512),
    "GRU 2x128": (nn.GRU, torch.nn.GRU, 128),
    "GRU 2x512": (nn.GRU, torch.nn.GRU, 512),
    "RNN 2x128": (nn.RNN, torch.nn.RNN, 128),
    "RNN 2x512": (nn.RNN, torch.nn.RNN, 512),
}


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
    parser.add_argument("--seconds", type=float, default=8.0, help="to time a row for")
    options = parser.parse_args()
    threads = kernels.get_num_threads()
    torch.set_num_threads(threads)
    print(f"batch {options.batch}, {options.steps} steps, {threads} threads, {native.isa}")
    print(f"{'ms (medians)':24}{'ours':>9}{'PyTorch':>9}{'ratio':>15}")
    for name in options.names or NETS:
        kind, their_kind, size = NETS[name]
        for work in (training, inference):
            net, theirs = kind(size, size, 2), their_kind(size, size, 2)
            state = {k: torch.from_numpy(v.copy()) for k, v in net.state_dict().items()}
            theirs.load_state_dict(state)
            shape = options.steps, options.batch, size
            x = np.random.default_rng(0).normal(size=shape).astype("f4")
            functions = dict(zip(("ours", "torch"), work(net, theirs, x), strict=True))
            ours, torchs = measure(functions, options.seconds).values()
            medians = f"{ours.median * 1e3:9.1f}{torchs.median * 1e3:9.1f}"
            print(f"{f'{name} {work.__name__}':24}{medians}{ratio(ours, torchs):>15}", flush=True)


if __name__ == "__main__":
    main()
