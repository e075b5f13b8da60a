"""Convolutions of known networks against PyTorch: forward and backward, layer by layer.

    python tests/bench/conv.py [--batch N] [--backward] [--seconds N] [NAME …]

Milliseconds, medians, each in its better format, contiguous or channels-last. ratio: PyTorch's
time to ours by the medians and, in brackets, by the best runs; above 1 flambeau is the faster.
rate: our multiply-adds, counted as in the direct algorithm, in per cent of NumPy's matrix product
in the same run. The first number is how often the layer occurs.
"""

import argparse

import numpy as np
import torch
from peers import peer
from timing import Time, measure, quickest, ratio, sgemm

from flambeau import kernels, nn

# (times, channels in, channels out, image, kernel, stride, padding, groups)
LAYERS = {
    "squeezenet": [
        (1, 3, 96, 224, 7, 2, 0, 1),
        (1, 96, 16, 54, 1, 1, 0, 1),
        (2, 16, 64, 54, 1, 1, 0, 1),
        (2, 16, 64, 54, 3, 1, 1, 1),
        (1, 128, 16, 54, 1, 1, 0, 1),
        (1, 128, 32, 54, 1, 1, 0, 1),
        (1, 32, 128, 54, 1, 1, 0, 1),
        (1, 32, 128, 54, 3, 1, 1, 1),
        (1, 256, 32, 27, 1, 1, 0, 1),
        (1, 32, 128, 27, 1, 1, 0, 1),
        (1, 32, 128, 27, 3, 1, 1, 1),
        (1, 256, 48, 27, 1, 1, 0, 1),
        (2, 48, 192, 27, 1, 1, 0, 1),
        (2, 48, 192, 27, 3, 1, 1, 1),
        (1, 384, 48, 27, 1, 1, 0, 1),
        (1, 384, 64, 27, 1, 1, 0, 1),
        (1, 64, 256, 27, 1, 1, 0, 1),
        (1, 64, 256, 27, 3, 1, 1, 1),
        (1, 512, 64, 13, 1, 1, 0, 1),
        (1, 64, 256, 13, 1, 1, 0, 1),
        (1, 64, 256, 13, 3, 1, 1, 1),
        (1, 512, 1000, 13, 1, 1, 0, 1),
    ],
    "resnet50": [
        (1, 3, 64, 224, 7, 2, 3, 1),
        (1, 64, 64, 56, 1, 1, 0, 1),
        (3, 64, 64, 56, 3, 1, 1, 1),
        (4, 64, 256, 56, 1, 1, 0, 1),
        (2, 256, 64, 56, 1, 1, 0, 1),
        (1, 256, 128, 56, 1, 1, 0, 1),
        (1, 128, 128, 56, 3, 2, 1, 1),
        (1, 256, 512, 56, 1, 2, 0, 1),
        (4, 128, 512, 28, 1, 1, 0, 1),
        (3, 512, 128, 28, 1, 1, 0, 1),
        (3, 128, 128, 28, 3, 1, 1, 1),
        (1, 512, 256, 28, 1, 1, 0, 1),
        (1, 256, 256, 28, 3, 2, 1, 1),
        (1, 512, 1024, 28, 1, 2, 0, 1),
        (6, 256, 1024, 14, 1, 1, 0, 1),
        (5, 1024, 256, 14, 1, 1, 0, 1),
        (5, 256, 256, 14, 3, 1, 1, 1),
        (1, 1024, 512, 14, 1, 1, 0, 1),
        (1, 512, 512, 14, 3, 2, 1, 1),
        (1, 1024, 2048, 14, 1, 2, 0, 1),
        (3, 512, 2048, 7, 1, 1, 0, 1),
        (2, 2048, 512, 7, 1, 1, 0, 1),
        (2, 512, 512, 7, 3, 1, 1, 1),
    ],
    "vgg16": [
        (1, 3, 64, 224, 3, 1, 1, 1),
        (1, 64, 64, 224, 3, 1, 1, 1),
        (1, 64, 128, 112, 3, 1, 1, 1),
        (1, 128, 128, 112, 3, 1, 1, 1),
        (1, 128, 256, 56, 3, 1, 1, 1),
        (2, 256, 256, 56, 3, 1, 1, 1),
        (1, 256, 512, 28, 3, 1, 1, 1),
        (2, 512, 512, 28, 3, 1, 1, 1),
        (3, 512, 512, 14, 3, 1, 1, 1),
    ],
    "efficientnet": [  # the depthwise layers of EfficientNet-Lite0
        (1, 32, 32, 112, 3, 1, 1, 32),
        (1, 96, 96, 112, 3, 2, 1, 96),
        (1, 144, 144, 56, 3, 1, 1, 144),
        (1, 144, 144, 56, 5, 2, 2, 144),
        (1, 240, 240, 28, 5, 1, 2, 240),
        (1, 240, 240, 28, 3, 2, 1, 240),
        (2, 480, 480, 14, 3, 1, 1, 480),
        (1, 480, 480, 14, 5, 1, 2, 480),
        (2, 672, 672, 14, 5, 1, 2, 672),
        (1, 672, 672, 14, 5, 2, 2, 672),
        (3, 1152, 1152, 7, 5, 1, 2, 1152),
        (1, 1152, 1152, 7, 3, 1, 1, 1152),
    ],
}


FORMATS = {"contiguous": torch.contiguous_format, "last": torch.channels_last}


def functions(layer, options):
    """The layer as ours and as PyTorch's, in both formats: {(library, format): function}."""
    _, c, k, size, kernel, stride, padding, groups = layer
    module = nn.Conv2d(c, k, kernel, stride, padding, groups=groups)
    x = np.random.default_rng(0).normal(size=(options.batch, c, size, size)).astype("f4")
    found = {}
    for name, memory_format in FORMATS.items():
        their = peer(module).to(memory_format=memory_format)
        t = torch.from_numpy(x).to(memory_format=memory_format)
        dt = torch.ones_like(their(t)).detach() if options.backward else None
        found["ours", name] = ours(module, t.numpy(), dt)
        found["torch", name] = theirs(their, t, dt)
    return found


def ours(module, x, dt):
    """Our forward pass, or our backward pass where dt is given."""
    if dt is None:
        return lambda: module(x)
    module(x)
    dy = dt.numpy()
    return lambda: module.backward(x, dy)


def theirs(module, t, dt):
    """PyTorch's forward pass, or its backward pass where dt is given."""
    if dt is None:
        return torch.inference_mode()(lambda: module(t))
    y = module(t.detach().requires_grad_())
    return lambda: y.backward(dt, retain_graph=True)


def row(name, fast, best, rate):
    """Print medians, their ratio and the rate."""
    medians = f"{fast.median * 1e3:9.3f}{best.median * 1e3:9.3f}"
    print(f"{name:>32}{medians}{ratio(fast, best):>15}{rate:7.0%}", flush=True)


def work(layer, options):
    """Multiply-adds of a layer."""
    _, c, k, size, kernel, stride, padding, groups = layer
    side = (size + 2 * padding - kernel) // stride + 1
    return options.batch * k * c // groups * (kernel * side) ** 2 * (1 + options.backward)


def table(network, options, limit):
    """Time the layers of one network and print their rows."""
    sums = np.zeros((2, 2))
    total = 0
    print(f"{network:>32}{'ours':>9}{'PyTorch':>9}{'ratio':>15}{'rate':>7}   (ms, medians)")
    for layer in LAYERS[network]:
        times, c, k, size, kernel, stride, *_ = layer
        found = measure(functions(layer, options), options.seconds)
        fast, best = (quickest(found, [c for c in found if c[0] == l]) for l in ("ours", "torch"))
        sums += times * np.array([fast, best])
        total += times * work(layer, options)
        name = f"{times} x {c}>{k} @{size} {kernel}x{kernel}/{stride}"
        row(name, fast, best, work(layer, options) / fast.median / limit)
    row("all", Time(*sums[0]), Time(*sums[1]), total / sums[0, 0] / limit)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NAME", help=", ".join(LAYERS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0, help="to time a layer for")
    options = parser.parse_args()
    torch.set_num_threads(kernels.get_num_threads())
    limit = sgemm()
    for network in options.networks or LAYERS:
        table(network, options, limit)


if __name__ == "__main__":
    main()
