"""Whole networks on a GPU against PyTorch there, in turn in one run.

    python tests/bench/gpu.py [--seconds N] [NAME …]

Milliseconds, medians, from the call to the end of the device's work. Inference, batch 1 and 32:
ours after nngraph.optimize; PyTorch in float32, contiguous and with channels-last memory, and with
the convolutions' products in TF32, which is its default. A training step, batch 32: forward,
backward, SGD with momentum. Outputs are compared before times are. ratio: the time of PyTorch's
better float32 format to ours, by the medians and, in brackets, by the best runs; above 1 flambeau
is the faster.
"""

import argparse
import time

import numpy as np
import torch
from engines import agree
from networks import build, our_step
from peers import peer
from timing import measure, quickest, ratio

from flambeau import kernels, nngraph

NAMES = ["squeezenet1_0", "resnet18", "resnet50", "vgg16"]
COLUMNS = {  # memory format, TF32
    "eager": (torch.contiguous_format, False),
    "last": (torch.channels_last, False),
    "tf32": (torch.channels_last, True),
}


def synchronized(function, tf32=False):
    """The function, until the device has done its work."""

    def run():
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        y = function()
        torch.cuda.synchronize()
        return y

    return run


def images(batch):
    """Random images on the host."""
    return np.random.default_rng(0).normal(size=(batch, 3, 224, 224)).astype("f4")


def inference(name, batch):
    """Functions to time: {column: function}."""
    net, x = build(name).eval(), images(batch)
    functions = {}
    for column, (memory_format, tf32) in COLUMNS.items():
        theirs = peer(net).eval().to("cuda", memory_format=memory_format)
        t = torch.from_numpy(x).to("cuda", memory_format=memory_format)
        call = torch.inference_mode()(lambda theirs=theirs, t=t: theirs(t))
        functions[column] = synchronized(call, tf32)
    ours, x = nngraph.optimize(net).to("cuda"), kernels.to(x, "cuda")
    functions = {"ours": synchronized(lambda: ours(x))} | functions
    outputs = {"ours": functions["ours"]().get()}
    agree(outputs | {c: functions[c]().cpu().numpy() for c in ("eager", "last")})
    return functions


def training(name, batch):
    """Functions to time: {column: function}."""
    net, x, target = build(name).train(), images(batch), np.arange(batch) % 10
    functions = {}
    for column, (memory_format, tf32) in COLUMNS.items():
        theirs = peer(net).train().to("cuda", memory_format=memory_format)
        t = torch.from_numpy(x).to("cuda", memory_format=memory_format)
        functions[column] = synchronized(step(theirs, t, torch.from_numpy(target).cuda()), tf32)
    x, target = kernels.to(x, "cuda"), kernels.to(target, "cuda")
    return {"ours": synchronized(our_step(net.to("cuda"), x, target))} | functions


def step(theirs, t, t_target):
    """A function that does PyTorch's training step."""
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9, fused=True)

    def run():
        optimizer.zero_grad()
        criterion(theirs(t), t_target).backward()
        optimizer.step()

    return run


def row(title, functions, seconds):
    """Time and print."""
    times = measure(functions, seconds)
    print(f"{title:32}" + "".join(f"{t.median * 1e3:10.2f}" for t in times.values()), end="")
    print(f"{ratio(times['ours'], quickest(times, ['eager', 'last'])):>16}", flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=4.0, help="to time a row for")
    options = parser.parse_args()
    card = torch.cuda.get_device_name()
    print(f"float32, 224 x 224, {card}, PyTorch {torch.__version__}, {time.strftime('%F')}")
    columns = "".join(f"{c:>10}" for c in ("ours", *COLUMNS))
    print(f"{'ms (medians)':32}{columns}{'ratio':>16}")
    for name in options.names or NAMES:
        for batch in (1, 32):
            row(f"{name}, batch {batch}", inference(name, batch), options.seconds)
        row(f"{name}, training, batch 32", training(name, 32), options.seconds)


if __name__ == "__main__":
    main()
