"""EfficientNet-Lite."""

import math

from flambeau import nn, nngraph

SCALES = {  # variant: factors of width and depth, height and width of the images
    "lite0": (1.0, 1.0, 224),
    "lite1": (1.0, 1.1, 240),
    "lite2": (1.1, 1.2, 260),
    "lite3": (1.2, 1.4, 280),
    "lite4": (1.4, 1.8, 300),
}
STAGES = (  # expansion, channels, blocks, size of the depthwise convolution, stride
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
STEM, HEAD = 32, 1280  # channels, the same in all variants


def efficientnet(variant, num_classes=1000):
    """EfficientNet "lite0" … "lite4": without squeeze-and-excitation, with ReLU6

    x (n, 3, size, size) -> logits (n, num_classes), size 224, 240, 260, 280 or 300; any from 32 on

    The padding is TensorFlow's "same" for that size: where a stride does not fit, more zeros come
    after the pixels than before.

    Sources: Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks,
    arXiv:1905.11946; tensorflow/tpu, models/official/efficientnet/lite.

    >>> efficientnet("lite0").until("_blocks.2")(np.zeros((1, 3, 64, 64), "f4")).shape
    (1, 24, 16, 16)
    """
    if variant not in SCALES:
        known = ", ".join(SCALES)
        raise ValueError(f"efficientnet: variant must be one of {known} — got {variant!r}")
    blocks, c = _blocks(*SCALES[variant])
    return nn.Sequential(
        ("pad", nn.ZeroPad2d((0, 1, 0, 1))),
        ("_conv_stem", nn.Conv2d(3, STEM, 3, stride=2, bias=False)),
        ("_bn0", batch_norm(STEM)),
        ("relu0", nn.ReLU6()),
        ("_blocks", blocks),
        ("_conv_head", nn.Conv2d(c, HEAD, 1, bias=False)),
        ("_bn1", batch_norm(HEAD)),
        ("relu1", nn.ReLU6()),
        ("avgpool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("dropout", nn.Dropout(0.2)),
        ("_fc", nn.Linear(HEAD, num_classes)),
    )


def _blocks(width, depth, extent):
    """All blocks, and the number of channels that the last one gives; extent: of the images."""
    net, c, extent = nn.Sequential(), STEM, extent // 2
    for i, (expansion, channels, count, size, stride) in enumerate(STAGES):
        k = rounded(channels * width)
        if 0 < i < len(STAGES) - 1:
            count = math.ceil(count * depth)
        for j in range(count):
            net.append(block(c, k, expansion, size, stride if j == 0 else 1, extent))
            c, extent = k, -(-extent // stride) if j == 0 else extent
    return net, c


def block(c, k, expansion, size, stride, extent):
    """Inverted bottleneck: wider, depthwise convolution, narrower; + x where the shapes agree

    x (n, c, h, w) -> y (n, k, h', w'); extent: the h and w that the padding is made for
    """
    x = h = nngraph.inputs("x")
    wide = expansion * c
    if expansion > 1:
        h = nn.Conv2d(c, wide, 1, bias=False)(h, name="_expand_conv")
        h = nn.ReLU6()(batch_norm(wide)(h, name="_bn0"))
    before, after = same_padding(extent, size, stride)
    if before < after:
        h = nn.ZeroPad2d((before, after, before, after))(h, name="pad")
    padding = before if before == after else 0
    depthwise = nn.Conv2d(wide, wide, size, stride, padding, groups=wide, bias=False)
    h = depthwise(h, name="_depthwise_conv")
    h = nn.ReLU6()(batch_norm(wide)(h, name="_bn1"))
    h = nn.Conv2d(wide, k, 1, bias=False)(h, name="_project_conv")
    h = batch_norm(k)(h, name="_bn2")
    return nngraph.Graph(x, h + x if c == k and stride == 1 else h)


def same_padding(extent, size, stride):
    """The zeros that TensorFlow puts before and after that many pixels: (before, after)."""
    windows = -(-extent // stride)
    total = max(0, (windows - 1) * stride + size - extent)
    return total // 2, total - total // 2


def batch_norm(c):
    """BatchNorm2d with TensorFlow's constants."""
    return nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)


def rounded(channels):
    """The multiple of 8 nearest to a number of channels, but not below nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8
