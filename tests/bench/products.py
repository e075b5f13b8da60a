"""Matrix products in float32 against NumPy's OpenBLAS, in turn in one run.

    python tests/bench/products.py [--seconds N] [KIND …]

An M x N x K product is (M, K) times (K, N). Rows: y = x Wᵀ of nn.Linear without its bias, for
squares, images of M pixels, layers and steps of a recurrent layer; layers whose weights cannot
change and so are read in fewer bits (fixed); the same of images as 1 x 1 convolution of nn.Conv2d,
whose weights cannot change and so are packed beforehand; c = a b of matrices that are transposed in
memory (t) or not (n). OpenBLAS writes into an array that is there already. Results are compared
before times are.

GFLOP/s, two for a multiply-add, by the medians. ratio: OpenBLAS' time to ours by the medians and,
in brackets, by the best runs; above 1 flambeau is the faster. of best: our GFLOP/s in per cent of
OpenBLAS' best run of the square of 1024 in the same run.
"""

import argparse
import math

import numpy as np
from engines import agree
from timing import measure, ratio

from flambeau import kernels, nn
from flambeau.kernels import cpu
from flambeau.kernels.cpu import native
from flambeau.kernels.cpu.linear import product

IMAGES = [
    (3136, 64, 64),
    (3136, 256, 64),
    (784, 512, 128),
    (196, 1024, 256),
    (49, 2048, 512),
]  # of 56 x 56, 28 x 28, 14 x 14 and 7 x 7 pixels
SHAPES = {
    "square": [(size, size, size) for size in (256, 512, 1024, 2048, 4096)],
    "skinny": IMAGES,
    "layer": [(1, 4096, 4096), (1, 4096, 25088), (8, 4096, 25088)],
    "fixed": [(1, 4096, 4096), (1, 4096, 25088)],
    "step": [(50, 2048, 512)],
    "conv1x1": IMAGES,
    "nn": [(1024, 1024, 1024)],
    "nt": [(1024, 1024, 1024)],
    "tn": [(1024, 1024, 1024)],
    "tt": [(1024, 1024, 1024)],
}


def random(*shape):
    """A float32 array of normal numbers."""
    return np.random.default_rng(0).standard_normal(shape, "f4")


def functions(kind, m, n, k):
    """Our product and OpenBLAS': {library: function}."""
    if kind in ("nn", "nt", "tn", "tt"):
        return transposed(kind, m, n, k)
    x, w, y = random(m, k), random(n, k), np.empty((m, n), "f4")
    found = {"OpenBLAS": lambda: np.matmul(x, w.T, out=y)}
    w.flags.writeable = kind != "fixed"
    if kind == "conv1x1":
        return {"ours": convolution(x, w)} | found
    return {"ours": lambda: cpu.linear(x, w, None)} | found


def transposed(kind, m, n, k):
    """The products of matrices in C order (n) or transposed in memory (t)."""
    a = random(m, k) if kind[0] == "n" else random(k, m).T
    b = random(k, n) if kind[1] == "n" else random(n, k).T
    c, d = np.empty((2, m, n), "f4")

    def ours():
        product(a, b, c, False)
        return c

    return {"ours": ours, "OpenBLAS": lambda: np.matmul(a, b, out=d)}


def convolution(x, w):
    """A function that gives x wᵀ, the product of a convolution of 1 x 1 in channels-last memory."""
    (m, k), side = x.shape, math.isqrt(len(x))
    module = nn.Conv2d(k, len(w), 1, bias=False)
    module.weight = w.reshape(*w.shape, 1, 1).copy()
    module.weight.flags.writeable = False
    image = x.reshape(1, side, side, k).transpose(0, 3, 1, 2)
    return lambda: module(image).transpose(0, 2, 3, 1).reshape(m, -1)


def limit(options):
    """GFLOP/s of OpenBLAS' best run of the square of 1024."""
    their = functions("square", 1024, 1024, 1024)["OpenBLAS"]
    return 2 * 1.024**3 / measure({"": their}, options.seconds)[""].best


def row(kind, shape, options, most):
    """Time one product and print its row."""
    found = functions(kind, *shape)
    agree({name: function() for name, function in found.items()})
    ours, theirs = measure(found, options.seconds).values()
    ours_rate, their_rate = (2e-9 * math.prod(shape) / t.median for t in (ours, theirs))
    name = f"{kind} {' x '.join(map(str, shape))}"
    rates = f"{ours_rate:9.1f}{their_rate:10.1f}"
    print(f"{name:28}{rates}{ratio(ours, theirs):>16}{ours_rate / most:9.0%}", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(SHAPES))
    parser.add_argument("--seconds", type=float, default=2.0, help="to time a product for")
    options = parser.parse_args()
    most = limit(options)
    print(f"{kernels.get_num_threads()} threads, {native.isa}, 100% = {most:.1f} GFLOP/s")
    print(f"{'GFLOP/s, M x N x K':28}{'ours':>9}{'OpenBLAS':>10}{'ratio':>16}{'of best':>9}")
    for kind in options.kinds or SHAPES:
        for shape in SHAPES[kind]:
            row(kind, shape, options, most)


if __name__ == "__main__":
    main()
