"""Zeros around images."""

from flambeau import kernels
from flambeau.nn.geometry import need_images
from flambeau.nn.module import Module


class ZeroPad2d(Module):
    """y = x with zeros around it, or cropped

    x (n, c, h, w) -> y (n, c, h + top + bottom, w + left + right)

    padding: one number for all sides, or (left, right, top, bottom); negative ones crop.
    Source: Torch7's nn.SpatialZeroPadding.

    >>> ZeroPad2d((1, 0, 0, -1))(np.ones((1, 1, 2, 2))).tolist()
    [[[[0.0, 1.0, 1.0]]]]
    """

    def __init__(self, padding):
        sides = padding if isinstance(padding, (tuple, list)) else (padding,) * 4
        fits = len(sides) == 4 and all(isinstance(side, int) for side in sides)
        must = "padding must be an integer or (left, right, top, bottom)"
        self.need(fits, must, padding=padding)
        self.padding = tuple(sides)

    def forward(self, x):
        need_images(self, x)
        left, right, top, bottom = (min(0, side) for side in self.padding)
        fits = x.shape[2] + top + bottom > 0 and x.shape[3] + left + right > 0
        self.need(fits, "x must be (n, c, h, w), larger than what is cropped", x=x)
        return kernels.of(x).pad2d(x, self.padding)

    def backward(self, x, dy):
        left, right, top, bottom = self.padding
        n, c, h, w = x.shape
        self.need_gradient(dy, (n, c, h + top + bottom, w + left + right))
        return kernels.of(x).pad2d_backward(dy, self.padding)
