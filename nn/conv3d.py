"""Convolutions over volumes: those over images that hold, as channels, all frames in sight."""

import contextlib

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


class Conv3d(Module):
    """y[n, k] = Σ_c weight[k, c] ⋆ x[n, c] + bias[k], ⋆ the cross-correlation

    x (n, c, d, h, w) -> y (n, k, d', h', w')
    h' = ⌊(h + 2 padding - dilation (p - 1) - 1) / stride⌋ + 1

    Arguments as in Conv2d, numbers or triples (d, h, w). weight (k, c/groups, r, p, q),
    bias (k,): uniform in ±1/√(c/groups r p q).
    Source: PyTorch's Conv3d; Torch7's VolumetricConvolution.

    >>> Conv3d(3, 8, 3, padding=(0, 1, 1))(np.ones((2, 3, 4, 5, 6), "f4")).shape
    (2, 8, 2, 5, 6)
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
        prepare(self, 3, (in_channels, out_channels, groups), kernel_size, stride, dilation)
        self.padding = padded(self, padding)
        fill(self, (out_channels, in_channels // groups, *self.kernel_size), bias)

    def forward(self, x):
        need_images(self, x, self.in_channels, 3)
        need_room(self, x)
        frames = result_size(self, x.shape[2:])[0]
        images = in_sight(self, x, frames)
        y = kernels.of(x).conv2d(images, flat(self.weight), self.bias, *options(self))
        return volumes(y, len(x), frames)

    def backward(self, x, dy):
        size = result_size(self, x.shape[2:])
        self.need_gradient(dy, (len(x), self.out_channels, *size))
        with flat_sum(self.grad_weight) as grad_weight:
            weights = flat(self.weight), grad_weight, self.grad_bias
            arrays = in_sight(self, x, size[0]), frame_by_frame(dy), *weights
            dx = kernels.of(x).conv2d_backward(*arrays, None, *options(self), self.want_dx)
        return None if dx is None else summed(self, dx, None, len(x), x.shape[2])


class ConvTranspose3d(Module):
    """Each x[n, c, …] adds x weight[c] to y at its window: Conv3d's backward as a layer.

    x (n, c, d, h, w) -> y (n, k, d', h', w')
    h' = (h - 1) stride - 2 padding + dilation (p - 1) + output_padding + 1

    Arguments as in ConvTranspose2d, numbers or triples. weight (c, k/groups, r, p, q), bias (k,):
    uniform in ±1/√(k/groups r p q).
    Source: PyTorch's ConvTranspose3d; Torch7's VolumetricFullConvolution.

    >>> ConvTranspose3d(8, 3, 2, stride=2)(np.ones((2, 8, 3, 5, 6), "f4")).shape
    (2, 3, 6, 10, 12)
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
        prepare(self, 3, (in_channels, out_channels, groups), kernel_size, stride, dilation)
        self.padding = numbers(self, "padding", padding, 0, 3)
        self.output_padding = output_padded(self, output_padding)
        fill(self, (in_channels, out_channels // groups, *self.kernel_size), bias)

    def forward(self, x):
        need_images(self, x, self.in_channels, 3)
        need_output(self, x)
        self.need_floats(x)
        stride, padding, *rest = options(self)
        more = stride, padding, self.output_padding[1:], *rest
        images = frame_by_frame(x)
        y = kernels.of(x).conv_transpose2d(images, flat(self.weight), None, *more)
        return summed(self, y, self.bias, len(x), image_size(self, x.shape[2:])[0])

    def backward(self, x, dy):
        size = image_size(self, x.shape[2:])
        self.need_gradient(dy, (len(x), self.out_channels, *size))
        k = kernels.of(x)
        if self.grad_bias is not None:
            k.channel_scale_backward(dy, dy, None, None, self.grad_bias, False)
        arrays = frame_by_frame(x), in_sight(self, dy, x.shape[2]), flat(self.weight)
        with flat_sum(self.grad_weight) as grad_weight:
            sums = grad_weight, None
            dx = k.conv_transpose2d_backward(*arrays, *sums, *options(self), self.want_dx)
        return None if dx is None else volumes(dx, len(x), x.shape[2])


def options(layer):
    """stride, padding, dilation within a frame, and groups."""
    return layer.stride[1:], layer.padding[1:], layer.dilation[1:], layer.groups


def depth(layer):
    """kernel size, stride, padding, dilation from frame to frame."""
    return layer.kernel_size[0], layer.stride[0], layer.padding[0], layer.dilation[0]


def in_sight(layer, x, count):
    """x (n, c, d, h, w) as images (n count, c r, h, w) of what the r taps in depth see."""
    return kernels.of(x).frames(x, count, *depth(layer))


def summed(layer, y, b, n, frames):
    """The volumes (n, c, frames, h, w) that images (n count, c r, h, w) add up to, + b."""
    return kernels.of(y).frames_sum(y, b, n, frames, *depth(layer))


def frame_by_frame(x):
    """x (n, c, d, h, w) as images (n d, c, h, w)."""
    return kernels.of(x).frames(x, x.shape[2], 1, 1, 0, 1)


def volumes(y, n, frames):
    """Images (n frames, k, h, w) as volumes (n, k, frames, h, w): a view."""
    return y.reshape(n, frames, *y.shape[1:]).transpose((0, 2, 1, 3, 4))


def flat(w):
    """w (k, c, r, p, q) as (k, c r, p, q), a view where its memory allows; None stays None."""
    return None if w is None else w.reshape(w.shape[0], -1, *w.shape[3:])


@contextlib.contextmanager
def flat_sum(grad):
    """flat(grad) to add to, which goes back to grad where it is no view of it."""
    found = flat(grad)
    yield found
    if grad is not None and not grad.flags.c_contiguous:
        kernels.of(grad).assign(grad, found.reshape(grad.shape))
