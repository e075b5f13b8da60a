"""Convolutions of known networks against PyTorch: forward and backward, layer by layer.

    python tests/bench/conv.py [name of a network] [--batch N] [--threads N] [--backward]

Medians and best of interleaved runs, milliseconds; the ratio is ours to PyTorch's: below 1 is
faster than it. On a busy machine the best times say more. GFLOP/s at our best time.
"""

import argparse
import time

import numpy as np
import torch

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


def measure(functions, rounds=7, runs=7):
    """The median and best times in ms of functions that take turns of several runs.

    Before a turn the other library's threads get the time to stop spinning.
    """
    times = [[] for _ in functions]
    for _ in range(rounds):
        for function, found in zip(functions, times, strict=True):
            time.sleep(0.005)
            function()
            for _ in range(runs):
                start = time.perf_counter()
                function()
                found.append(1e3 * (time.perf_counter() - start))
    return [(sorted(found)[len(found) // 2], min(found)) for found in times]


def pair(layer, batch, backward):
    """Two functions that do the same: ours and PyTorch's."""
    _, c, k, size, kernel, stride, padding, groups = layer
    ours = nn.Conv2d(c, k, kernel, stride, padding, groups=groups)
    theirs = torch.nn.Conv2d(c, k, kernel, stride, padding, groups=groups)
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
    x = np.random.default_rng(0).normal(size=(batch, c, size, size)).astype("f4")
    t = torch.from_numpy(x)
    if not backward:
        return lambda: ours(x), torch.no_grad()(lambda: theirs(t))
    dy = np.ones_like(ours(x))
    y = theirs(t.requires_grad_())
    dt = torch.from_numpy(dy)
    return lambda: ours.backward(x, dy), lambda: y.backward(dt, retain_graph=True)


HEADING = "ours ms, torch ms: median  ratio          best  ratio   GFLOP/s"


def line(times):
    """ours and PyTorch's, median and best, with their ratios."""
    (ours, best), (theirs, their_best) = times
    return (
        f"{ours:8.3f} {theirs:8.3f} {ours / theirs:6.2f}   "
        f"{best:8.3f} {their_best:8.3f} {best / their_best:6.2f}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="*", default=list(LAYERS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backward", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kernels.set_num_threads(options.threads)
    for network in options.network:
        total = np.zeros((2, 2))
        print(f"{network:>32}  {HEADING}")
        for layer in LAYERS[network]:
            times, c, k, size, kernel, stride, padding, groups = layer
            found = np.array(measure(pair(layer, options.batch, options.backward)))
            total += times * found
            side = (size + 2 * padding - kernel) // stride + 1
            work = 2 * options.batch * k * c // groups * (kernel * side) ** 2
            work *= 2 if options.backward else 1
            name = f"{times} x {c}>{k} @{size} {kernel}x{kernel}/{stride}"
            print(f"{name:>32}  {line(found)} {work / found[0, 1] * 1e-6:8.0f}")
        print(f"{'all':>32}  {line(total)}\n")


if __name__ == "__main__":
    main()
