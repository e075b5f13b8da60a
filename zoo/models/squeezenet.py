"""SqueezeNet."""

from flambeau import nn, nngraph

STEMS = {"1.0": (96, 7), "1.1": (64, 3)}  # width and size of the first convolution
FIRES = {  # version: squeeze width of each fire module, one tuple between two max poolings
    "1.0": ((16, 16, 32), (32, 48, 48, 64), (64,)),
    "1.1": ((16, 16), (32, 32), (48, 48, 64, 64)),
}


def squeezenet(version, num_classes=1000):
    """SqueezeNet "1.0" or "1.1"

    x (n, 3, 224, 224) -> logits (n, num_classes); any size from 21 on

    Source: Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters,
    arXiv:1602.07360.

    >>> net = squeezenet("1.1", num_classes=10)
    >>> net.until("features.3.squeeze")(np.zeros((1, 3, 64, 64), "f4")).shape
    (1, 16, 15, 15)
    """
    if version not in FIRES:
        raise ValueError(f"squeezenet: version must be {' or '.join(FIRES)} — got {version!r}")
    return nn.Sequential(
        ("features", features(*STEMS[version], FIRES[version])),
        ("classifier", classifier(num_classes)),
        ("flatten", nn.Flatten()),
    )


def features(c, size, stages):
    """The fire modules: x (n, 3, h, w) -> y (n, 512, about h / 16, w / 16)"""
    net = nn.Sequential(nn.Conv2d(3, c, size, stride=2), nn.ReLU())
    for stage in stages:
        net.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for squeeze in stage:
            net.append(fire(c, squeeze, 4 * squeeze))
            c = 8 * squeeze
    return net


def fire(c, squeeze, expand):
    """Fewer channels, then 1x1 and 3x3 convolutions side by side: x (n, c, h, w) -> y (n, k, h, w)

    k = 2 expand
    """
    x = nngraph.inputs("x")
    s = nn.ReLU()(nn.Conv2d(c, squeeze, 1)(x, name="squeeze"))
    small = nn.ReLU()(nn.Conv2d(squeeze, expand, 1)(s, name="expand1x1"))
    large = nn.ReLU()(nn.Conv2d(squeeze, expand, 3, padding=1)(s, name="expand3x3"))
    return nngraph.Graph(x, nn.JoinTable(1)(small, large, name="join"))


def classifier(num_classes):
    """A score for each class at each place, averaged: x (n, 512, h, w) -> y (n, num_classes, 1, 1)

    With the ReLU of the paper before the average: no logit is negative.
    """
    return nn.Sequential(
        nn.Dropout(), nn.Conv2d(512, num_classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
