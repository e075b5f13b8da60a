"""VGG."""

from flambeau import nn

STAGES = {  # depth: convolutions in each of the five stages
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
WIDTHS = 64, 128, 256, 512, 512


def vgg(depth, num_classes=1000, batch_norm=False):
    """VGG-11, 13, 16 or 19 (the paper's A, B, D and E)

    x (n, 3, 224, 224) -> logits (n, num_classes); any size from 32 on

    Source: Simonyan and Zisserman, Very deep convolutional networks for large-scale image
    recognition, arXiv:1409.1556.

    >>> vgg(11, batch_norm=True).until("features.3")
    Sequential(
      (features) Sequential(
        (0) Conv2d(3, 64, 3, padding=1)
        (1) BatchNorm2d(64)
        (2) ReLU()
        (3) MaxPool2d(2)
      )
    )
    """
    if depth not in STAGES:
        raise ValueError(f"vgg: depth must be one of {', '.join(map(str, STAGES))} — got {depth!r}")
    return nn.Sequential(
        ("features", features(STAGES[depth], batch_norm)),
        ("avgpool", nn.AdaptiveAvgPool2d(7)),
        ("flatten", nn.Flatten()),
        ("classifier", classifier(num_classes)),
    )


def features(counts, batch_norm):
    """The convolutions: x (n, 3, h, w) -> y (n, 512, h / 32, w / 32)"""
    net, c = nn.Sequential(), 3
    for count, k in zip(counts, WIDTHS, strict=True):
        for _ in range(count):
            net.append(nn.Conv2d(c, k, 3, padding=1))
            if batch_norm:
                net.append(nn.BatchNorm2d(k))
            net.append(nn.ReLU())
            c = k
        net.append(nn.MaxPool2d(2))
    return net


def classifier(num_classes):
    """The linear layers: x (n, 25088) -> logits (n, num_classes)"""
    return nn.Sequential(
        *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
        nn.Linear(4096, num_classes),
    )
