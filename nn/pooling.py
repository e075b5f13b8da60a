"""Pooling: one value for each window of the plane."""

from flambeau import kernels
from flambeau.nn.geometry import need_images, need_window, pair, window_shape
from flambeau.nn.module import Module
from flambeau.nn.with_relu import WithReLU


class MaxPool2d(WithReLU):
    """y = the greatest value of each window

    x (n, c, h, w) -> y (n, c, h', w')

    h' = ⌊(h + 2 padding - dilation (p - 1) - 1) / stride⌋ + 1
    kernel_size, stride, padding, dilation: numbers or (down, across); stride: that of the kernel
    when None. The padding never wins. Of equal values the first gets the gradient.
    ceil_mode: rounds h' up; the last window starts in the image or the padding before it (Caffe's
    rule as well).        Source: Torch7's nn.SpatialMaxPooling.

    >>> MaxPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    from_saved = True

    def __init__(self, kernel_size, stride=None, padding=0, dilation=1, *, ceil_mode=False):
        kernel = pair(self, "kernel_size", kernel_size, 1)
        stride = kernel if stride is None else pair(self, "stride", stride, 1)
        padding, dilation = pair(self, "padding", padding, 0), pair(self, "dilation", dilation, 1)
        need_half(self, kernel, padding)
        self.options = kernel, stride, padding, dilation, bool(ceil_mode)

    def forward(self, x):
        y, found = self.pool(x, self.training)
        self.saved = found if self.training else None
        return y

    def pool(self, x, want_index=True):
        """y; where the values lie or None, and (h, w)."""
        need_window(self, x, *self.options)
        y, index = kernels.of(x).max_pool2d(x, *self.options, want_index)
        return y, (index, x.shape[2:])

    def backward(self, x, dy):
        index, size = self.pool(x)[1] if self.saved is None else self.saved
        self.need_gradient(dy, index.shape)
        return kernels.of(dy).max_pool2d_backward(dy, index, size)

    def forward_relu(self, x):
        """What follows a ReLU of x: the greatest of a window stays that, so y is cut off."""
        y = self.forward(x)
        return kernels.of(y).relu(y)


class AvgPool2d(Module):
    """y = the mean of each window

    x (n, c, h, w) -> y (n, c, h', w')        h' = ⌊(h + 2 padding - p) / stride⌋ + 1

    kernel_size, stride, padding: numbers or (down, across); stride: that of the kernel when None.
    ceil_mode: rounds h' up, as in MaxPool2d. count_include_pad: divide by the whole window, the
    zeros of the padding counted.        Source: Torch7's nn.SpatialAveragePooling.

    >>> AvgPool2d(2)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[2.5, 4.5], [10.5, 12.5]]]]
    """

    def __init__(
        self, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True
    ):
        kernel = pair(self, "kernel_size", kernel_size, 1)
        stride = kernel if stride is None else pair(self, "stride", stride, 1)
        padding = pair(self, "padding", padding, 0)
        need_half(self, kernel, padding)
        self.options = kernel, stride, padding, bool(ceil_mode), bool(count_include_pad)

    def forward(self, x):
        kernel, stride, padding, ceil, _ = self.options
        need_window(self, x, kernel, stride, padding, (1, 1), ceil)
        self.need_floats(x)
        return kernels.of(x).avg_pool2d(x, *self.options)

    def backward(self, x, dy):
        kernel, stride, padding, ceil, _ = self.options
        self.need_gradient(dy, window_shape(x, kernel, stride, padding, (1, 1), ceil))
        return kernels.of(x).avg_pool2d_backward(x, dy, *self.options)


class AdaptiveAvgPool2d(Module):
    """y = the means of windows of which there are always as many

    x (n, c, h, w) -> y (n, c, h', w'); window i of h' covers rows ⌊i h/h'⌋ up to ⌈(i + 1) h/h'⌉

    output_size: h' = w', or (h', w'); None for that of x.
    Source: Torch7's nn.SpatialAdaptiveAveragePooling.

    >>> AdaptiveAvgPool2d(1)(np.arange(16.0).reshape(1, 1, 4, 4)).tolist()
    [[[[7.5]]]]
    """

    def __init__(self, output_size):
        size = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
        fits = len(size) == 2 and all(v is None or isinstance(v, int) and v > 0 for v in size)
        must = "output_size must be positive or None, or a pair of these"
        self.need(fits, must, output_size=output_size)
        self.size = tuple(size)

    def forward(self, x):
        need_images(self, x)
        self.need(min(x.shape[2:]) > 0, "h and w of x must be positive", x=x)
        self.need_floats(x)
        return kernels.of(x).adaptive_avg_pool2d(x, self.output(x))

    def backward(self, x, dy):
        self.need_gradient(dy, (*x.shape[:2], *self.output(x)))
        return kernels.of(x).adaptive_avg_pool2d_backward(x, dy, self.output(x))

    def output(self, x):
        """(h', w') for this x."""
        return tuple(x.shape[2 + i] if v is None else v for i, v in enumerate(self.size))


def need_half(module, kernel, padding):
    """The padding is at most half of the window, so that every window reaches into the image."""
    fits = all(2 * pad <= size for size, pad in zip(kernel, padding, strict=True))
    module.need(fits, "padding must be at most half of kernel_size", padding=padding)
