"""Steps that do the work of several layers: what nngraph.optimize puts in their place."""

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.geometry import need_images
from flambeau.nn.module import Module


class FusedConv2d(Module):
    """y = clamp(weight ⋆ x + bias + other, low, high), for inference only

    x (n, c, h, w), or (x, other) where `adds` is True, other of the shape of y -> y (n, k, h', w')

    low, high: numbers or None for no bound. weight (k, c/groups, p, q), bias (k,).

    >>> import numpy as np
    >>> FusedConv2d(3, 4, (3, 3), low=0.0)(np.ones((1, 3, 5, 5), "f4")).shape
    (1, 4, 3, 3)
    """

    params = "weight", "bias"

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        groups=1,
        low=None,
        high=None,
        adds=False,
    ):
        self.in_channels, self.out_channels = in_channels, out_channels
        self.options = tuple(stride), tuple(padding), tuple(dilation), groups
        self.low, self.high, self.adds = low, high, adds
        self.weight = init.fan_in((out_channels, in_channels // groups, *kernel_size))
        self.bias = init.full((out_channels,), 0)

    def forward(self, x):
        x, other = x if self.adds else (x, None)
        need_images(self, x, self.in_channels)
        arrays = x, self.weight, self.bias, other
        return kernels.of(x).conv2d_fused(*arrays, self.low, self.high, *self.options)

    def backward(self, x, dy):
        self.need(False, "is for inference only: train the network that was given to optimize")
