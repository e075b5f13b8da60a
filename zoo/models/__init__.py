"""Networks of the classical papers, one file a family, with PyTorch's names of parameters."""

import difflib
from functools import partial

import numpy as np

from flambeau import nn
from flambeau.zoo.models.alexnet import alexnet
from flambeau.zoo.models.efficientnet import efficientnet
from flambeau.zoo.models.resnet import resnet, resnet_cifar
from flambeau.zoo.models.squeezenet import squeezenet
from flambeau.zoo.models.vgg import vgg

__all__ = [
    "NETWORKS",
    "alexnet",
    "build",
    "efficientnet",
    "recognize",
    "resnet",
    "resnet_cifar",
    "squeezenet",
    "vgg",
]

NETWORKS = {  # by torchvision's names where it has them
    "alexnet": alexnet,
    "squeezenet1_0": partial(squeezenet, "1.0"),
    "squeezenet1_1": partial(squeezenet, "1.1"),
    **{f"vgg{depth}": partial(vgg, depth) for depth in (11, 13, 16, 19)},
    **{f"vgg{depth}_bn": partial(vgg, depth, batch_norm=True) for depth in (11, 13, 16, 19)},
    **{f"resnet{depth}": partial(resnet, depth) for depth in (18, 34, 50, 101, 152)},
    "resnext50_32x4d": partial(resnet, 50, groups=32, width_per_group=4),
    "resnext101_32x8d": partial(resnet, 101, groups=32, width_per_group=8),
    "resnext101_64x4d": partial(resnet, 101, groups=64, width_per_group=4),
    "wide_resnet50_2": partial(resnet, 50, width_per_group=128),
    "wide_resnet101_2": partial(resnet, 101, width_per_group=128),
    **{f"resnet{depth}": partial(resnet_cifar, depth) for depth in (20, 32, 44, 56, 110)},
    **{f"efficientnet_lite{i}": partial(efficientnet, f"lite{i}") for i in range(5)},
}


def build(name, **options):
    """The network of that name with fresh weights; options such as num_classes go to its function.

    Raises ValueError, with the names that come close, where there is none.

    >>> build("squeezenet1_1", num_classes=10)["classifier"]["1"]
    Conv2d(512, 10, 1)
    """
    if name not in NETWORKS:
        close = difflib.get_close_matches(str(name), NETWORKS, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(NETWORKS)}"
        raise ValueError(f"no network is called {name!r}: {hint}")
    return NETWORKS[name](**options)


def recognize(tensors):
    """The network, its weights unset, whose names and shapes these are; None where there is none.

    tensors: arrays by name, such as `zoo.read(path)` gives. The number of classes is theirs;
    counts of batches, which old files lack, may be missing.

    >>> recognize({"conv1.weight": np.ones((64, 3, 7, 7), "f4")}) is None
    True
    """
    shapes = _shapes(tensors)
    with nn.init.skipped():
        for name in NETWORKS:
            network = build(name)
            last = network.named_parameters()[-1][0]
            if last in shapes and set(_shapes(network.state_dict())) == set(shapes):
                network = build(name, num_classes=shapes[last][0])
                if _shapes(network.state_dict()) == shapes:
                    return network
    return None


def _shapes(tensors):
    return {
        name: np.shape(value)
        for name, value in tensors.items()
        if not name.endswith(".num_batches_tracked")
    }
