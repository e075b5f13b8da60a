"""Convolutions over sequences: those over images that are one row high."""

from flambeau import kernels
from flambeau.nn.conv import (
    fill,
    image_size,
    need_output,
    need_room,
    output_padded,
    padded,
    prepare,
    result_size,
)
from flambeau.nn.geometry import need_images, numbers
from flambeau.nn.module import Module


class Conv1d(Module):
    """y[n, k] = Σ_c weight[k, c] ⋆ x[n, c] + bias[k], ⋆ the cross-correlation

    x (n, c, w) -> y (n, k, w')        w' = ⌊(w + 2 padding - dilation (q - 1) - 1) / stride⌋ + 1

    Arguments as in Conv2d. weight (k, c/groups, q), bias (k,): uniform in ±1/√(c/groups q).
    Source: PyTorch's Conv1d; Torch7's TemporalConvolution, which has x (n, w, c).

    >>> Conv1d(3, 8, 5, stride=2)(np.ones((2, 3, 11), "f4")).shape
    (2, 8, 4)
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
        prepare(self, 1, (in_channels, out_channels, groups), kernel_size, stride, dilation)
        self.padding = padded(self, padding)
        fill(self, (out_channels, in_channels // groups, *self.kernel_size), bias)

    def forward(self, x):
        need_images(self, x, self.in_channels, 1)
        need_room(self, x)
        y = kernels.of(x).conv2d(high(x), high(self.weight), self.bias, *self._options())
        return y[:, :, 0]

    def backward(self, x, dy):
        self.need_gradient(dy, (len(x), self.out_channels, *result_size(self, x.shape[2:])))
        arrays = *map(high, (x, dy, self.weight, self.grad_weight)), self.grad_bias
        dx = kernels.of(x).conv2d_backward(*arrays, None, *self._options(), self.want_dx)
        return None if dx is None else dx[:, :, 0]

    def _options(self):
        return (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups


class ConvTranspose1d(Module):
    """Each x[n, c, i] adds x weight[c] to y at the window i: Conv1d's backward as a layer.

    x (n, c, w) -> y (n, k, w')
    w' = (w - 1) stride - 2 padding + dilation (q - 1) + output_padding + 1

    Arguments as in ConvTranspose2d. weight (c, k/groups, q), bias (k,): uniform in
    ±1/√(k/groups q). Source: PyTorch's ConvTranspose1d.

    >>> ConvTranspose1d(8, 3, 2, stride=2)(np.ones((2, 8, 5), "f4")).shape
    (2, 3, 10)
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
        prepare(self, 1, (in_channels, out_channels, groups), kernel_size, stride, dilation)
        self.padding = numbers(self, "padding", padding, 0, 1)
        self.output_padding = output_padded(self, output_padding)
        fill(self, (in_channels, out_channels // groups, *self.kernel_size), bias)

    def forward(self, x):
        need_images(self, x, self.in_channels, 1)
        need_output(self, x)
        self.need_floats(x)
        stride, padding, *rest = self._options()
        options = stride, padding, (0, *self.output_padding), *rest
        y = kernels.of(x).conv_transpose2d(high(x), high(self.weight), self.bias, *options)
        return y[:, :, 0]

    def backward(self, x, dy):
        self.need_gradient(dy, (len(x), self.out_channels, *image_size(self, x.shape[2:])))
        arrays = *map(high, (x, dy, self.weight, self.grad_weight)), self.grad_bias
        dx = kernels.of(x).conv_transpose2d_backward(*arrays, *self._options(), self.want_dx)
        return None if dx is None else dx[:, :, 0]

    def _options(self):
        return (1, *self.stride), (0, *self.padding), (1, *self.dilation), self.groups


def high(x):
    """x (n, c, w) as images (n, c, 1, w): a view of the same memory; None stays None."""
    return None if x is None else x[:, :, None]
