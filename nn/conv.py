"""Convolutions over images."""

import math
from numbers import Integral

from flambeau import kernels
from flambeau.kernels.reference.conv import output_size, transposed_size
from flambeau.nn import init
from flambeau.nn.geometry import need_images, numbers, pair
from flambeau.nn.module import Module
from flambeau.nn.with_relu import WithReLU


class Conv2d(WithReLU):
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
        prepare(self, 2, (in_channels, out_channels, groups), kernel_size, stride, dilation)
        self.padding = padded(self, padding)
        fill(self, (out_channels, in_channels // groups, *self.kernel_size), bias)

    def forward(self, x):
        need_images(self, x, self.in_channels)
        need_room(self, x)
        return kernels.of(x).conv2d(x, self.weight, self.bias, *self._options())

    def forward_relu(self, x):
        need_images(self, x, self.in_channels)
        need_room(self, x)
        arrays = x, self.weight, self.bias, None
        return kernels.of(x).conv2d_fused(*arrays, 0.0, None, *self._options())

    def backward(self, x, dy):
        return self.backward_sum(x, dy, None)

    def backward_sum(self, x, dy, other):
        """backward(x, dy) + other in one step; other: an array like x, or None."""
        size = result_size(self, x.shape[2:])
        self.need_gradient(dy, (x.shape[0], self.out_channels, *size))
        arrays = x, dy, self.weight, self.grad_weight, self.grad_bias, other
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
        prepare(self, 2, (in_channels, out_channels, groups), kernel_size, stride, dilation)
        self.padding = pair(self, "padding", padding, 0)
        self.output_padding = output_padded(self, output_padding)
        fill(self, (in_channels, out_channels // groups, *self.kernel_size), bias)

    def forward(self, x):
        need_images(self, x, self.in_channels)
        need_output(self, x)
        self.need_floats(x)
        options = self.stride, self.padding, self.output_padding, self.dilation, self.groups
        return kernels.of(x).conv_transpose2d(x, self.weight, self.bias, *options)

    def backward(self, x, dy):
        size = image_size(self, x.shape[2:])
        self.need_gradient(dy, (x.shape[0], self.out_channels, *size))
        arrays = x, dy, self.weight, self.grad_weight, self.grad_bias
        options = self.stride, self.padding, self.dilation, self.groups, self.want_dx
        return kernels.of(x).conv_transpose2d_backward(*arrays, *options)


def prepare(layer, axes, counts, kernel_size, stride, dilation):
    """Set channels, groups and what every convolution over so many axes has, checked."""
    layer.in_channels, layer.out_channels, layer.groups = counts
    layer.kernel_size = numbers(layer, "kernel_size", kernel_size, 1, axes)
    layer.stride = numbers(layer, "stride", stride, 1, axes)
    layer.dilation = numbers(layer, "dilation", dilation, 1, axes)
    check(layer)


def fill(layer, shape, bias):
    """Set weight and bias, drawn as PyTorch and Torch7 draw them."""
    layer.weight = init.fan_in(shape)
    bound = math.prod(shape[1:]) ** -0.5
    layer.bias = init.uniform((layer.out_channels,), bound) if bias else None


def padded(layer, padding):
    """The padding of each axis from a number, one for each, "valid" or "same"."""
    axes = len(layer.kernel_size)
    if not isinstance(padding, str):
        return numbers(layer, "padding", padding, 0, axes)
    layer.need(padding in ("same", "valid"), "padding must be same or valid", padding=padding)
    if padding == "valid":
        return (0,) * axes
    spans = [d * (k - 1) for k, d in zip(layer.kernel_size, layer.dilation, strict=True)]
    even = all(span % 2 == 0 for span in spans)
    advice = "; put a ZeroPad2d before" if axes == 2 else ""
    must = f'padding="same" must have an odd kernel{advice}'
    layer.need(even, must, kernel_size=layer.kernel_size)
    layer.need(set(layer.stride) == {1}, 'padding="same" must have stride 1', stride=layer.stride)
    return tuple(span // 2 for span in spans)


def output_padded(layer, output_padding):
    """The output padding of each axis, less than its stride or its dilation."""
    more = numbers(layer, "output_padding", output_padding, 0, len(layer.kernel_size))
    fits = all(m < max(s, d) for m, s, d in zip(more, layer.stride, layer.dilation, strict=True))
    must = "output_padding must be less than stride or dilation"
    layer.need(fits, must, output_padding=more)
    return more


def result_size(layer, size):
    """(h', w') or the like: the convolution's result for an image of a size."""
    return output_size(size, layer.kernel_size, layer.stride, layer.padding, layer.dilation)


def image_size(layer, size):
    """The same of a transposed convolution."""
    options = layer.stride, layer.padding, layer.output_padding, layer.dilation
    return transposed_size(size, layer.kernel_size, *options)


def need_room(layer, x):
    """The kernel must fit into the padded x."""
    sides = zip(x.shape[2:], layer.kernel_size, layer.padding, layer.dilation, strict=True)
    fits = all(s + 2 * pad >= d * (k - 1) + 1 for s, k, pad, d in sides)
    layer.need(fits, "x must be, padded, as large as the kernel", x=x)


def need_output(layer, x):
    """A transposed convolution's output must have at least one element along each axis."""
    fits = min(x.shape[2:]) > 0 and min(image_size(layer, x.shape[2:])) > 0
    layer.need(fits, "x must be large enough to leave an output", x=x)


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
