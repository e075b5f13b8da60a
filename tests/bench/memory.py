"""Peak memory of training and inference, against PyTorch eager.

    python tests/bench/memory.py [NAME …]

The largest resident set of a new process, in MB of a million bytes: four training steps at batch 8
(forward, backward, SGD with momentum), then with nngraph.Recorded, or one inference at batch 1, of
3 x 224 x 224 float32.
PyTorch runs networks written in torch.nn with in-place ReLU, contiguous (eager) and channels-last
(last). ratio: ours to the lower of theirs, below 1 flambeau needs less; net: the same after
subtracting from each what a process needs that only imports the library.
"""

import resource
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ["vgg16", "resnet50"]
TRAINING = 8, 3, 224, 224
SHAPES = {"training": TRAINING, "recorded": TRAINING, "inference": (1, 3, 224, 224)}
STEPS = 4


def ours(name, work):
    """Run the work with flambeau; the number of parameters."""
    import numpy as np

    from flambeau import nn, nngraph
    from flambeau.zoo import models

    net = models.build(name)
    x = np.random.default_rng(0).normal(size=SHAPES[work]).astype("f4")
    if work == "inference":
        net.eval()(x)
    else:
        net = nngraph.Recorded(net) if work == "recorded" else net
        net.train().want_dx = False
        net.backward_once = True  # as in PyTorch
        target = np.arange(len(x))
        loss, sgd = nn.CrossEntropyLoss(), nn.optim.SGD(net, lr=1e-3, momentum=0.9)
        for _ in range(STEPS):
            net.zero_grad()
            y = net(x)
            net.backward(x, loss.backward(y, target))
            sgd.step()
    return sum(p.size for p in net.parameters())


def eager(name, work, memory_format="contiguous_format"):
    """Run the work with PyTorch; the number of parameters."""
    import numpy as np
    import torch
    import torchnets

    memory_format = {"memory_format": getattr(torch, memory_format)}
    net = getattr(torchnets, name)().to(**memory_format)
    x = np.random.default_rng(0).normal(size=SHAPES[work]).astype("f4")
    t = torch.from_numpy(x).to(**memory_format)
    if work == "inference":
        with torch.inference_mode():
            net.eval()(t)
    else:
        target = torch.arange(len(t))
        loss = torch.nn.CrossEntropyLoss()
        sgd = torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)
        for _ in range(STEPS):
            sgd.zero_grad()
            loss(net(t), target).backward()
            sgd.step()
    return sum(p.numel() for p in net.parameters())


def last(name, work):
    """Run the work with PyTorch in channels-last memory; the number of parameters."""
    return eager(name, work, "channels_last")


def peak():
    """The largest resident set of this process so far, in bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size if sys.platform == "darwin" else size * 1024


def child(code):
    """The integers that a new process prints.

    Its peak is at least this process's size, which it has until it starts: so this one is small.
    """
    command = [sys.executable, "-c", f"import memory; {code}"]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    return [int(number) for number in done.stdout.split()]


def row(name, work, imports):
    """Run the work in new processes and print its row."""
    columns = ("ours", "eager", "last")
    code = "print(memory.{}({!r}, {!r}), memory.peak())"
    found = [child(code.format(column, name, work)) for column in columns]
    counts, peaks = zip(*found, strict=True)
    if len(set(counts)) > 1:
        raise AssertionError(f"{name}: the numbers of parameters differ: {counts}")
    mine, theirs = peaks[0], min(peaks[1:])
    net = (mine - imports["flambeau"]) / (theirs - imports["torch"])
    print(f"{f'{name} {work}':24}" + "".join(f"{p / 1e6:9.0f}" for p in peaks), end="")
    print(f"{mine / theirs:9.2f}{net:9.2f}", flush=True)


def main():
    """Print the table."""
    (threads,) = child("import flambeau; print(flambeau.kernels.get_num_threads())")
    print(f"{threads} threads, 3 x 224 x 224, float32; {STEPS} steps at batch 8, or 1 at batch 1")
    imports = {p: child(f"import {p}; print(memory.peak())")[0] for p in ("flambeau", "torch")}
    print(f"{'MB':24}{'ours':>9}{'eager':>9}{'last':>9}{'ratio':>9}{'net':>9}")
    sizes = f"{imports['flambeau'] / 1e6:9.0f}{imports['torch'] / 1e6:9.0f}"
    print(f"{'import':24}{sizes}{'':9}{imports['flambeau'] / imports['torch']:9.2f}")
    for name in sys.argv[1:] or NAMES:
        for work in SHAPES:
            row(name, work, imports)


if __name__ == "__main__":
    main()
