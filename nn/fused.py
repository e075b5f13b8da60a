"""Steps that do the work of several layers: what nngraph.optimize puts in their place."""

from flambeau import kernels
from flambeau.kernels.reference.conv import output_size
from flambeau.nn import init
from flambeau.nn.container import Container
from flambeau.nn.geometry import need_images
from flambeau.nn.module import Module
from flambeau.nn.pooling import MaxPool2d


class FusedConv2d(Module):
    """y = clamp(weight ⋆ x + bias + other, low, high), for inference only

    x (n, c, h, w), or (x, other) where `adds` is True, other of the shape of y -> y (n, k, h', w')

    low, high: numbers or None for no bound. padding: (h, w), or (top, left, bottom, right).
    weight (k, c/groups, p, q), bias (k,).

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


class ChainedConv2d(Container):
    """y = last(second(first(x))), convolutions one after another, for inference only

    x (n, c, h, w), or (x, other) where the last adds -> y (n, k, h', w')

    first, second, last: FusedConv2d. The first is of no groups, the second channel by channel, the
    last of kernel_size (1, 1) and stride 1; there may be no last. What is between them need not
    be whole in memory. Source: the inverted residual of Sandler et al., MobileNetV2, 2018.

    >>> import numpy as np
    >>> second = FusedConv2d(8, 8, (3, 3), groups=8, high=6.0)
    >>> ChainedConv2d(FusedConv2d(3, 8, (1, 1)), second)(np.ones((1, 3, 5, 5), "f4")).shape
    (1, 8, 3, 3)
    """

    def __init__(self, first, second, last=None):
        self.fill((first, second) if last is None else (first, second, last))
        first, second, last = (*self, None)[:3]
        self.need(whole(first), "first must be of one group, and add nothing")
        channels = second.in_channels, second.out_channels, second.options[3]
        alike = channels == (first.out_channels,) * 3 and not second.adds
        self.need(alike, "second must have a group for each channel of first, and add nothing")
        fits = last is None or pointwise(last) and last.in_channels == second.out_channels
        self.need(fits, "last must be 1 x 1, of stride 1, for the channels of second")
        self.adds = last is not None and last.adds

    def forward(self, x):
        x, other = x if self.adds else (x, None)
        convolutions = list(self.named.values())
        need_images(convolutions[0], x, convolutions[0].in_channels)
        return kernels.of(x).conv2d_chained(
            x,
            other,
            [m.weight for m in convolutions],
            [m.bias for m in convolutions],
            [(m.low, m.high) for m in convolutions],
            [m.options for m in convolutions],
        )

    def backward(self, x, dy):
        self.need(False, "is for inference only: train the network that was given to optimize")


def whole(conv):
    """True for a FusedConv2d of one group that adds nothing."""
    return conv.options[3] == 1 and not conv.adds


def pointwise(conv):
    """True for a FusedConv2d whose every window is one pixel, in order."""
    return conv.weight.shape[2:] == (1, 1) and conv.options == ((1, 1), (0, 0), (1, 1), 1)


class JoinedConv2d(Container):
    """y = the results of some FusedConv2d, one after another as channels, for inference only

    a tuple of x (n, c_i, h_i, w_i), one for each -> y (n, Σ k_i, h', w')

    Each convolution writes into its part of y: nothing is copied.

    >>> import numpy as np
    >>> net = JoinedConv2d(FusedConv2d(3, 4, (1, 1)), FusedConv2d(2, 5, (3, 3)))
    >>> net((np.ones((1, 3, 4, 4), "f4"), np.ones((1, 2, 6, 6), "f4"))).shape
    (1, 9, 4, 4)
    """

    def __init__(self, *convolutions):
        self.fill(convolutions)

    def forward(self, x):
        parts = x if isinstance(x, tuple) else (x,)
        convolutions = list(self.named.values())
        self.need(len(parts) == len(convolutions), f"x must have {len(self)} parts", x=x)
        places = set()
        for part, m in zip(parts, convolutions, strict=True):
            need_images(m, part, m.in_channels)
            places.add((len(part), *grid(m, part)))
        self.need(len(places) == 1, "the results must be alike but for channels", x=x)
        return kernels.of(parts).conv2d_joined(
            list(parts),
            [m.weight for m in convolutions],
            [m.bias for m in convolutions],
            [(m.low, m.high) for m in convolutions],
            [m.options for m in convolutions],
        )

    def backward(self, x, dy):
        self.need(False, "is for inference only: train the network that was given to optimize")


class PooledConv2d(Container):
    """y = pool(convolution(x)), the greatest of each 2 x 2 results, for inference only

    x (n, c, h, w) -> y (n, k, h', w')

    convolution: a FusedConv2d that adds nothing; pool: a MaxPool2d of windows of 2 x 2, 2 apart.
    Where Winograd's algorithm is taken, the results are never whole in memory.

    >>> import numpy as np
    >>> net = PooledConv2d(FusedConv2d(3, 4, (3, 3), low=0.0), MaxPool2d(2))
    >>> net(np.ones((1, 3, 8, 8), "f4")).shape
    (1, 4, 3, 3)
    """

    def __init__(self, convolution, pool):
        self.fill((convolution, pool))
        convolution, pool = self
        self.need(not convolution.adds, "the convolution must add nothing")
        fits = isinstance(pool, MaxPool2d) and halves(pool)
        self.need(fits, "pool must be a MaxPool2d of windows of 2 x 2, 2 apart, without padding")

    def forward(self, x):
        conv, pool = self.named.values()
        need_images(conv, x, conv.in_channels)
        ceil = pool.options[-1]
        fits = min(grid(conv, x)) >= (1 if ceil else 2)
        self.need(fits, "x must leave room for a window of the convolution's results", x=x)
        arrays = x, conv.weight, conv.bias
        return kernels.of(x).conv2d_pooled(*arrays, (conv.low, conv.high), conv.options, ceil)

    def backward(self, x, dy):
        self.need(False, "is for inference only: train the network that was given to optimize")


def grid(conv, x):
    """(h', w') of the results of a FusedConv2d."""
    return output_size(x.shape[2:], conv.weight.shape[2:], *conv.options[:3])


def halves(pool):
    """True for a MaxPool2d whose windows are 2 x 2, side by side, without padding."""
    return pool.options[:4] == ((2, 2), (2, 2), (0, 0), (1, 1))
