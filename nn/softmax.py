"""Softmax and its logarithm along an axis."""

from flambeau import kernels
from flambeau.nn.module import Module


class Softmax(Module):
    """y = eˣ / Σ eˣ along the axis dim

    x (*s) -> y (*s); NaN where all of x is −∞ or some is ∞.
    Source: Torch7's nn.SoftMax and nn.SpatialSoftMax.

    >>> Softmax()(np.log(np.array([[1.0, 3.0]]))).round(6).tolist()
    [[0.25, 0.75]]
    """

    def __init__(self, dim=1):
        self.dim = dim

    def forward(self, x):
        _check(self, x)
        return kernels.of(x).softmax(x, self.dim)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).softmax_backward(x, dy, self.dim)


class LogSoftmax(Module):
    """y = x − ln Σ eˣ along the axis dim

    x (*s) -> y (*s); NaN where all of x is −∞ or some is ∞.
    Source: Torch7's nn.LogSoftMax and nn.SpatialLogSoftMax.

    >>> LogSoftmax()(np.array([[-1e3, 0.0]])).tolist()
    [[-1000.0, 0.0]]
    """

    def __init__(self, dim=1):
        self.dim = dim

    def forward(self, x):
        _check(self, x)
        return kernels.of(x).log_softmax(x, self.dim)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).log_softmax_backward(x, dy, self.dim)


def _check(module, x):
    """Raise unless x has the axis."""
    dim = module.dim
    module.need(-x.ndim <= dim < x.ndim, f"x must have an axis {dim}", x=x)
    module.need_floats(x)
