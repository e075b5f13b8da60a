"""ResNet, ResNeXt and Wide ResNet for ImageNet; ResNet for CIFAR."""

from flambeau import nn, nngraph

STAGES = {  # depth: blocks in each of the four stages
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def resnet(depth, num_classes=1000, groups=1, width_per_group=64):
    """ResNet-18, 34, 50, 101 or 152, with the stride at the 3x3 convolution

    x (n, 3, 224, 224) -> logits (n, num_classes); any size from 1 on

    groups, width_per_group: of the 3x3 convolutions from depth 50 on: 32 and 4 make
    ResNeXt-50 32x4d (arXiv:1611.05431), 1 and 128 Wide ResNet-50-2 (arXiv:1605.07146)

    Source: He et al., Deep residual learning for image recognition, arXiv:1512.03385.

    >>> net = resnet(18, num_classes=10)
    >>> net.until("layer3")(np.zeros((1, 3, 64, 64), "f4")).shape
    (1, 256, 4, 4)
    """
    if depth not in STAGES:
        known = ", ".join(map(str, STAGES))
        raise ValueError(f"resnet: depth must be one of {known} — got {depth!r}")
    plain = depth < 50
    if plain and (groups, width_per_group) != (1, 64):
        raise ValueError(f"resnet: depth {depth} has neither groups nor another width_per_group")
    net = nn.Sequential(
        ("conv1", nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)),
        ("bn1", nn.BatchNorm2d(64)),
        ("relu", nn.ReLU()),
        ("maxpool", nn.MaxPool2d(3, 2, padding=1)),
    )
    c = 64
    for i, count in enumerate(STAGES[depth]):
        stage = nn.Sequential()
        k = 64 * 2**i * (1 if plain else 4)
        for j in range(count):
            stride = 2 if i > 0 and j == 0 else 1
            if plain:
                stage.append(basic(c, k, stride, projection(c, k, stride)))
            else:
                stage.append(bottleneck(c, k, stride, groups, width_per_group))
            c = k
        net.append(stage, f"layer{i + 1}")
    net.append(nn.AdaptiveAvgPool2d(1), "avgpool").append(nn.Flatten(), "flatten")
    return net.append(nn.Linear(c, num_classes), "fc")


def resnet_cifar(depth, num_classes=10):
    """ResNet-20, 32, 44, 56 or 110 for images of 32x32: three stages, shortcuts without parameters

    x (n, 3, 32, 32) -> logits (n, num_classes); any size from 1 on

    depth: 6 times the blocks of a stage, and 2

    Source: the paper's section 4.2, option A.

    >>> resnet_cifar(20).until("layer2")(np.zeros((1, 3, 32, 32), "f4")).shape
    (1, 32, 16, 16)
    """
    count, rest = divmod(depth - 2, 6)
    if rest or count < 1:
        raise ValueError(f"resnet_cifar: depth must be 6 n + 2, such as 20 or 56 — got {depth!r}")
    net = nn.Sequential(
        ("conv1", nn.Conv2d(3, 16, 3, padding=1, bias=False)),
        ("bn1", nn.BatchNorm2d(16)),
        ("relu", nn.ReLU()),
    )
    c = 16
    for i, k in enumerate((16, 32, 64)):
        stage = nn.Sequential()
        for _ in range(count):
            stage.append(basic(c, k, k // c, subsampling(c, k)))
            c = k
        net.append(stage, f"layer{i + 1}")
    net.append(nn.AdaptiveAvgPool2d(1), "avgpool").append(nn.Flatten(), "flatten")
    return net.append(nn.Linear(c, num_classes), "linear")


def basic(c, k, stride, shortcut):
    """y = relu(conv(relu(conv(x))) + shortcut(x)), x (n, c, h, w) -> y (n, k, h', w')"""
    x = nngraph.inputs("x")
    h = nn.Conv2d(c, k, 3, stride=stride, padding=1, bias=False)(x, name="conv1")
    h = nn.ReLU()(nn.BatchNorm2d(k)(h, name="bn1"))
    h = nn.Conv2d(k, k, 3, padding=1, bias=False)(h, name="conv2")
    h = nn.BatchNorm2d(k)(h, name="bn2")
    return residual(x, h, shortcut)


def bottleneck(c, k, stride, groups, width_per_group):
    """basic() with a 3x3 convolution between two of 1x1, x (n, c, h, w) -> y (n, k, h', w')"""
    x = nngraph.inputs("x")
    width = k // 4 * width_per_group // 64 * groups
    middle = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False)
    h = nn.Conv2d(c, width, 1, bias=False)(x, name="conv1")
    h = nn.ReLU()(nn.BatchNorm2d(width)(h, name="bn1"))
    h = middle(h, name="conv2")
    h = nn.ReLU()(nn.BatchNorm2d(width)(h, name="bn2"))
    h = nn.Conv2d(width, k, 1, bias=False)(h, name="conv3")
    h = nn.BatchNorm2d(k)(h, name="bn3")
    return residual(x, h, projection(c, k, stride))


def residual(x, h, shortcut):
    """The block relu(h + shortcut(x)); its shortcut is x itself where shortcut is None."""
    short = x if shortcut is None else shortcut(x, name="downsample")
    return nngraph.Graph(x, nn.ReLU()(h + short, name="relu"))


def projection(c, k, stride):
    """The shortcut with parameters (option B), None where the shapes agree."""
    if c == k and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(c, k, 1, stride=stride, bias=False), nn.BatchNorm2d(k))


def subsampling(c, k):
    """The shortcut without parameters (option A): every k / c-th pixel, zeros as new channels."""
    if c == k:
        return None
    return nn.Sequential(nn.MaxPool2d(1, k // c), nn.Padding(1, (k - c) // 2, (k - c) // 2))
