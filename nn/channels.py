"""Zeros along one axis."""

from flambeau import kernels
from flambeau.nn.module import Module


class Padding(Module):
    """y = zeros, x, zeros one after another along an axis

    x (*s) -> y, alike but for that axis, which is longer by before + after

    With axis 1 it makes channels: the shortcuts of a ResNet for CIFAR. Source: Torch7's nn.Padding.

    >>> Padding(1, 1, 2)(np.ones((1, 2))).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """

    def __init__(self, axis, before, after=0):
        self.axis, self.before, self.after = axis, before, after
        fits = all(isinstance(v, int) for v in (axis, before, after)) and min(before, after) >= 0
        self.need(fits, "axis must be an integer, before and after integers from 0 up")

    def forward(self, x):
        axes = len(getattr(x, "shape", ()))
        self.need(-axes <= self.axis < axes, f"x must have an axis {self.axis}", x=x)
        parts = [self._zeros(x, self.before), x, self._zeros(x, self.after)]
        return kernels.of(x).concatenate(parts, self.axis)

    def _zeros(self, x, count):
        shape = list(x.shape)
        shape[self.axis] = count
        return kernels.of(x).zeros(x, tuple(shape), x.dtype)

    def backward(self, x, dy):
        sizes = [self.before, x.shape[self.axis], self.after]
        return kernels.of(dy).split(dy, sizes, self.axis)[1]
