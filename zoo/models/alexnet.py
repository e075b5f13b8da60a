"""AlexNet."""

from flambeau import nn


def alexnet(num_classes=1000):
    """AlexNet in one column, as torchvision has it, without response normalisation.

    x (n, 3, 224, 224) -> logits (n, num_classes); any size from 63 on

    Source: Krizhevsky, One weird trick for parallelizing convolutional neural networks,
    arXiv:1404.5997.

    >>> alexnet(10).until("features.2")
    Sequential(
      (features) Sequential(
        (0) Conv2d(3, 64, 11, stride=4, padding=2)
        (1) ReLU()
        (2) MaxPool2d(3, 2)
      )
    )
    """
    return nn.Sequential(
        ("features", features()),
        ("avgpool", nn.AdaptiveAvgPool2d(6)),
        ("flatten", nn.Flatten()),
        ("classifier", classifier(num_classes)),
    )


def features():
    """The convolutions: x (n, 3, h, w) -> y (n, 256, about h / 32, w / 32)"""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )


def classifier(num_classes):
    """The linear layers: x (n, 9216) -> logits (n, num_classes)"""
    return nn.Sequential(
        *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
        nn.Linear(4096, num_classes),
    )
