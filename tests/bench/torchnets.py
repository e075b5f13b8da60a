"""Networks in torch.nn alone, for processes that import nothing of flambeau.

Layers, names and order of parameters are torchvision's, with its in-place ReLU.
"""

import torch
from torch import nn

VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)  # 0: pooling
RESNET50 = (64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)  # width, blocks, stride


def vgg16():
    """VGG-16: x (n, 3, 224, 224) -> logits (n, 1000)"""
    layers, c = [], 3
    for width in VGG16:
        if width:
            layers += [nn.Conv2d(c, width, 3, padding=1), nn.ReLU(inplace=True)]
            c = width
        else:
            layers.append(nn.MaxPool2d(2))
    layers += [nn.Flatten(), nn.Linear(7 * 7 * c, 4096)]
    for width in (4096, 1000):
        layers += [nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(4096, width)]
    return nn.Sequential(*layers)


def resnet50():
    """ResNet-50: x (n, 3, 224, 224) -> logits (n, 1000)"""
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    c = 64
    for width, blocks, stride in RESNET50:
        for i in range(blocks):
            layers.append(Bottleneck(c, width, stride if i == 0 else 1))
            c = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 1000))


class Bottleneck(nn.Module):
    """Convolutions 1x1, 3x3 and 1x1 beside a shortcut: x (n, c, h, w) -> y (n, 4 width, h', w')"""

    def __init__(self, c, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or c != 4 * width:
            shortcut = nn.Conv2d(c, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


def squeezenet():
    """SqueezeNet 1.0 as in Caffe: x (n, 3, h, w) -> logits (n, 1000); its conv10 pads by 1."""
    features = [nn.Conv2d(3, 96, 7, 2), nn.ReLU(inplace=True)]
    c = 96
    for stage in ((16, 16, 32), (32, 48, 48, 64), (64,)):
        features.append(nn.MaxPool2d(3, 2, ceil_mode=True))
        for squeeze in stage:
            features.append(Fire(c, squeeze))
            c = 8 * squeeze
    classifier = [nn.Dropout(), nn.Conv2d(c, 1000, 1, padding=1), nn.ReLU(inplace=True)]
    net = nn.Sequential()
    net.features = nn.Sequential(*features)
    net.classifier = nn.Sequential(*classifier, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return net


class Fire(nn.Module):
    """Fewer channels, then 1x1 and 3x3 side by side: x (n, c, h, w) -> y (n, 8 squeeze, h, w)"""

    def __init__(self, c, squeeze):
        super().__init__()
        self.squeeze = nn.Conv2d(c, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, 4 * squeeze, 1)
        self.expand3x3 = nn.Conv2d(squeeze, 4 * squeeze, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        s = self.relu(self.squeeze(x))
        return torch.cat([self.relu(self.expand1x1(s)), self.relu(self.expand3x3(s))], 1)
