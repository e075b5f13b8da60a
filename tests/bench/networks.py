"""Whole networks against PyTorch eager: inference and a training step, in turn, in one run.

    python tests/bench/networks.py [--batch N] [--threads N] [--train] [NAME …]

ratio: PyTorch's time to ours; above 1 flambeau is the faster.
"""

import argparse

import numpy as np
import torch
from peers import medians, peer

from flambeau import kernels, nn
from flambeau.kernels.cpu import native
from flambeau.zoo import models

NAMES = ["squeezenet1_0", "resnet18", "resnet50", "vgg16", "alexnet", "efficientnet_lite0"]


def inference(net, theirs, x):
    """Median times of one forward pass, ours and PyTorch's."""
    net.eval(), theirs.eval()
    t = torch.from_numpy(x)
    with torch.inference_mode():
        return medians(lambda: net(x), lambda: theirs(t))


def training(net, theirs, x):
    """Median times of forward, backward and an SGD step, ours and PyTorch's."""
    net.train(), theirs.train()
    net.want_dx = False
    target = np.arange(len(x)) % 10
    loss, sgd = nn.CrossEntropyLoss(), nn.optim.SGD(net, lr=1e-3, momentum=0.9)
    their_loss = torch.nn.CrossEntropyLoss()
    their_sgd = torch.optim.SGD(theirs.parameters(), lr=1e-3, momentum=0.9)
    t, their_target = torch.from_numpy(x), torch.from_numpy(target)

    def ours():
        y = net(x)
        net.zero_grad()
        net.backward(x, loss.backward(y, target))
        sgd.step()

    def torchs():
        their_sgd.zero_grad()
        their_loss(theirs(t), their_target).backward()
        their_sgd.step()

    return medians(ours, torchs)


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
    size = 224
    work = "training step" if options.train else "inference"
    print(f"{work}, batch {options.batch}, {size}x{size}, {options.threads} threads, {native.isa}")
    print(f"{'':20} {'flambeau':>9} {'PyTorch':>9} {'ratio':>6}   (ms; ratio > 1: flambeau faster)")
    for name in options.names or NAMES:
        net = models.build(name)
        x = np.random.default_rng(0).normal(size=(options.batch, 3, size, size)).astype("f4")
        ours, theirs = (training if options.train else inference)(net, peer(net), x)
        print(f"{name:20} {ours * 1e3:9.1f} {theirs * 1e3:9.1f} {theirs / ours:6.2f}", flush=True)


if __name__ == "__main__":
    main()
