"""EfficientNet-Lite."""

import math

from flambeau import nn, nngraph

SCALES = {  # variant: factors of width and depth
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
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

    x (n, 3, 224, 224) -> logits (n, num_classes); heights and widths that 32 divides, for which
    the padding is TensorFlow's "same"

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
        ("pad", same_padding(3, 2)),
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


def _blocks(width, depth):
    """All blocks, and the number of channels that the last one gives."""
    net, c = nn.Sequential(), STEM
    for i, (expansion, channels, count, size, stride) in enumerate(STAGES):
        k = rounded(channels * width)
        if 0 < i < len(STAGES) - 1:
            count = math.ceil(count * depth)
        for j in range(count):
            net.append(block(c, k, expansion, size, stride if j == 0 else 1))
            c = k
    return net, c


def block(c, k, expansion, size, stride):
    """Inverted bottleneck: wider, depthwise convolution, narrower; + x where the shapes agree

    x (n, c, h, w) -> y (n, k, h', w')
    """
    x = h = nngraph.inputs("x")
    wide = expansion * c
    if expansion > 1:
        h = nn.Conv2d(c, wide, 1, bias=False)(h, name="_expand_conv")
        h = nn.ReLU6()(batch_norm(wide)(h, name="_bn0"))
    h = same_padding(size, stride)(h, name="pad")
    h = nn.Conv2d(wide, wide, size, stride=stride, groups=wide, bias=False)(
        h, name="_depthwise_conv"
    )
    h = nn.ReLU6()(batch_norm(wide)(h, name="_bn1"))
    h = nn.Conv2d(wide, k, 1, bias=False)(h, name="_project_conv")
    h = batch_norm(k)(h, name="_bn2")
    return nngraph.Graph(x, h + x if c == k and stride == 1 else h)


def same_padding(size, stride):
    """What TensorFlow pads before a convolution, where the stride divides height and width."""
    total = size - stride
    before, after = total // 2, total - total // 2
    return nn.ZeroPad2d((before, after, before, after))


def batch_norm(c):
    """BatchNorm2d with TensorFlow's constants."""
    return nn.BatchNorm2d(c, eps=1e-3, momentum=0.01)


def rounded(channels):
    """The multiple of 8 nearest to a number of channels, but not below nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near if near >= 0.9 * channels else near + 8
