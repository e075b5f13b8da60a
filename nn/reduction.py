"""Sums, means and extremes over one axis."""

from flambeau import kernels
from flambeau.nn.module import Module
from flambeau.nn.shape import reshaped


class SumOver(Module):
    """y = Σ x over an axis

    x (*s, n, *t) -> y (*s, *t), or (*s, 1, *t) with keepdim.        Source: Torch7's nn.Sum.

    >>> SumOver(0)(np.array([[1.0, 2.0], [3.0, 5.0]])).tolist()
    [4.0, 7.0]
    """

    def __init__(self, axis, keepdim=False):
        self.axis, self.keepdim = axis, keepdim

    def forward(self, x):
        need_axis(self, x)
        y = kernels.of(x).sum_over(x, self.axis, 1.0)
        return reshaped(y, result_shape(self, x))

    def backward(self, x, dy):
        dy = without_axis(self, x, dy)
        return kernels.of(dy).sum_over_backward(dy, self.axis, x.shape[self.axis], 1.0)


class MeanOver(Module):
    """y = Σ x / n over an axis of n

    x (*s, n, *t) -> y (*s, *t), or (*s, 1, *t) with keepdim.        Source: Torch7's nn.Mean.

    >>> MeanOver(-1, keepdim=True)(np.array([[1.0, 2.0], [3.0, 5.0]])).tolist()
    [[1.5], [4.0]]
    """

    def __init__(self, axis, keepdim=False):
        self.axis, self.keepdim = axis, keepdim

    def forward(self, x):
        need_axis(self, x, least=1)
        y = kernels.of(x).sum_over(x, self.axis, 1 / x.shape[self.axis])
        return reshaped(y, result_shape(self, x))

    def backward(self, x, dy):
        dy, n = without_axis(self, x, dy), x.shape[self.axis]
        return kernels.of(dy).sum_over_backward(dy, self.axis, n, 1 / n)


class MaxOver(Module):
    """y = max x over an axis; the first of equals gets the gradient

    x (*s, n, *t) -> y (*s, *t), or (*s, 1, *t) with keepdim.        Source: Torch7's nn.Max.

    >>> MaxOver(0)(np.array([[1.0, 6.0], [3.0, 5.0]])).tolist()
    [3.0, 6.0]
    """

    def __init__(self, axis, keepdim=False):
        self.axis, self.keepdim = axis, keepdim

    def forward(self, x):
        need_axis(self, x, least=1)
        return reshaped(kernels.of(x).extreme_over(x, self.axis, True), result_shape(self, x))

    def backward(self, x, dy):
        dy = without_axis(self, x, dy)
        return kernels.of(x).extreme_over_backward(x, dy, self.axis, True)


class MinOver(Module):
    """y = min x over an axis; the first of equals gets the gradient

    x (*s, n, *t) -> y (*s, *t), or (*s, 1, *t) with keepdim.        Source: Torch7's nn.Min.

    >>> MinOver(0)(np.array([[1.0, 6.0], [3.0, 5.0]])).tolist()
    [1.0, 5.0]
    """

    def __init__(self, axis, keepdim=False):
        self.axis, self.keepdim = axis, keepdim

    def forward(self, x):
        need_axis(self, x, least=1)
        return reshaped(kernels.of(x).extreme_over(x, self.axis, False), result_shape(self, x))

    def backward(self, x, dy):
        dy = without_axis(self, x, dy)
        return kernels.of(x).extreme_over_backward(x, dy, self.axis, False)


def need_axis(module, x, least=0):
    """Raise ValueError unless x holds floats and has the axis, with at least so many numbers."""
    module.need_floats(x)
    axis = module.axis
    module.need(-x.ndim <= axis < x.ndim, f"x must have an axis {axis}", x=x)
    module.need(x.shape[axis] >= least, f"axis {axis} of x must not be empty", x=x)


def result_shape(module, x):
    """The shape of y."""
    axis = module.axis % x.ndim
    return (*x.shape[:axis], *(1,) * module.keepdim, *x.shape[axis + 1 :])


def without_axis(module, x, dy):
    """dy in the shape that kernels take, (*s, *t)."""
    module.need_gradient(dy, result_shape(module, x))
    axis = module.axis % x.ndim
    return reshaped(dy, (*x.shape[:axis], *x.shape[axis + 1 :]))
