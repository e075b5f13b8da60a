"""Convolutions over images."""

import math
from numbers import Integral

from flambeau import kernels
from flambeau.kernels.reference.conv import output_size, transposed_size
from flambeau.nn import init
from flambeau.nn.geometry import need_images, pair
from flambeau.nn.module import Module


class Conv2d(Module):
    """y[n, k] = Σ_c weight[k, c] ⋆ x[n, c] + bias[k], ⋆ the cross-correlation

    x (n, c, h, w) -> y (n, k, h', w')
    h' = ⌊(h + 2 padding - dilation (p - 1) - 1) / stride⌋ + 1

    kernel_size (p, q), stride, padding, dilation: numbers or pairs (h, w). padding may also be
    "valid" (none) or "same" (h' = h; stride 1). groups: channels are split into as many groups
    that do not mix. weight (k, c/groups, p, q), bias (k,): uniform in ±1/√(c/groups p q).
    Source: PyTorch's Conv2d; Torch7's SpatialConvolution.

    >>> Conv2d(3, 8, 3, padding=1)(np.ones((2, 3, 5, 6), "f4")).shape
    (2, 8, 5, 6)
    """

    params = "weight", "bias"

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
    ):
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(self, "kernel_size", kernel_size, 1)
        self.stride = pair(self, "stride", stride, 1)
        self.dilation = pair(self, "dilation", dilation, 1)
        self.padding = self._padding(padding)
        check(self)
        shape = out_channels, in_channels // groups, *self.kernel_size
        self.weight = init.fan_in(shape)
        self.bias = init.uniform((out_channels,), math.prod(shape[1:]) ** -0.5) if bias else None

    def _padding(self, padding):
        """(h, w) from a number, a pair, "valid" or "same"."""
        if not isinstance(padding, str):
            return pair(self, "padding", padding, 0)
        self.need(padding in ("same", "valid"), "padding must be same or valid", padding=padding)
        if padding == "valid":
            return 0, 0
        spans = tuple(d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True))
        even = all(span % 2 == 0 for span in spans)
        must = 'padding="same" must have an odd kernel; put a ZeroPad2d before'
        self.need(even, must, kernel_size=self.kernel_size)
        self.need(self.stride == (1, 1), 'padding="same" must have stride 1', stride=self.stride)
        return spans[0] // 2, spans[1] // 2

    def _fits(self, size):
        """True when the kernel fits into the padded image."""
        sides = zip(size, self.kernel_size, self.padding, self.dilation, strict=True)
        return all(s + 2 * pad >= d * (k - 1) + 1 for s, k, pad, d in sides)

    def forward(self, x):
        need_images(self, x, self.in_channels)
        self.need(self._fits(x.shape[2:]), "x must be, padded, as large as the kernel", x=x)
        return kernels.of(x).conv2d(x, self.weight, self.bias, *self._options())

    def backward(self, x, dy):
        options = self.kernel_size, self.stride, self.padding, self.dilation
        size = output_size(x.shape[2:], *options)
        self.need_gradient(dy, (x.shape[0], self.out_channels, *size))
        arrays = x, dy, self.weight, self.grad_weight, self.grad_bias
        return kernels.of(x).conv2d_backward(*arrays, *self._options(), self.want_dx)

    def _options(self):
        return self.stride, self.padding, self.dilation, self.groups


class ConvTranspose2d(Module):
    """Each x[n, c, i, j] adds x weight[c] to y at the window (i, j): Conv2d's backward as a layer.

    x (n, c, h, w) -> y (n, k, h', w')
    h' = (h - 1) stride - 2 padding + dilation (p - 1) + output_padding + 1

    output_padding: rows and columns more, less than stride or dilation. Numbers or pairs as in
    Conv2d. weight (c, k/groups, p, q), bias (k,): uniform in ±1/√(k/groups p q).
    Source: PyTorch's ConvTranspose2d; Torch7's SpatialFullConvolution.

    >>> ConvTranspose2d(8, 3, 2, stride=2)(np.ones((2, 8, 5, 6), "f4")).shape
    (2, 3, 10, 12)
    """

    params = "weight", "bias"

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
    ):
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(self, "kernel_size", kernel_size, 1)
        self.stride = pair(self, "stride", stride, 1)
        self.padding = pair(self, "padding", padding, 0)
        self.output_padding = pair(self, "output_padding", output_padding, 0)
        self.dilation = pair(self, "dilation", dilation, 1)
        check(self)
        more = zip(self.output_padding, self.stride, self.dilation, strict=True)
        self.need(
            all(m < max(s, d) for m, s, d in more),
            "output_padding must be less than stride or dilation",
            output_padding=self.output_padding,
        )
        shape = in_channels, out_channels // groups, *self.kernel_size
        self.weight = init.fan_in(shape)
        self.bias = init.uniform((out_channels,), math.prod(shape[1:]) ** -0.5) if bias else None

    def _fits(self, size):
        """True when the output has at least one row and one column."""
        options = self.stride, self.padding, self.output_padding, self.dilation
        sides = zip(size, self.kernel_size, *options, strict=True)
        return all(
            s > 0 and (s - 1) * step - 2 * pad + d * (k - 1) + more + 1 > 0
            for s, k, step, pad, more, d in sides
        )

    def forward(self, x):
        need_images(self, x, self.in_channels)
        self.need(self._fits(x.shape[2:]), "x must be large enough to leave an output", x=x)
        self.need_floats(x)
        options = self.stride, self.padding, self.output_padding, self.dilation, self.groups
        return kernels.of(x).conv_transpose2d(x, self.weight, self.bias, *options)

    def backward(self, x, dy):
        options = self.stride, self.padding, self.output_padding, self.dilation
        size = transposed_size(x.shape[2:], self.kernel_size, *options)
        self.need_gradient(dy, (x.shape[0], self.out_channels, *size))
        arrays = x, dy, self.weight, self.grad_weight, self.grad_bias
        options = self.stride, self.padding, self.dilation, self.groups, self.want_dx
        return kernels.of(x).conv_transpose2d_backward(*arrays, *options)


def check(layer):
    """Raise ValueError unless channels and groups make sense."""
    counts = layer.in_channels, layer.out_channels, layer.groups
    positive = all(isinstance(v, Integral) and v > 0 for v in counts)
    layer.need(positive, "channels and groups must be positive integers")
    channels = counts[:2]
    layer.need(
        all(c % layer.groups == 0 for c in channels),
        "in_channels and out_channels must be divisible by groups",
        channels=channels,
        groups=layer.groups,
    )
