"""The same elements in another shape."""

import math

from flambeau import kernels
from flambeau.nn.module import Module


class Identity(Module):
    """y = x

    x -> x, arrays or tuples of them. The arguments are not used, as in PyTorch.
    Source: Torch7's nn.Identity.

    >>> Identity()(np.ones(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self, *args, **kwargs):
        pass

    def forward(self, x):
        return x

    def backward(self, x, dy):
        return dy


class Flatten(Module):
    """y = x with the axes from start_dim up to and including end_dim made one

    x (n, *s) -> y (n, product of s) by default.        Source: PyTorch's Flatten.

    >>> Flatten()(np.ones((2, 3, 4))).shape
    (2, 12)
    """

    def __init__(self, start_dim=1, end_dim=-1):
        self.start, self.end = start_dim, end_dim

    def forward(self, x):
        n = max(1, x.ndim)
        inside = -n <= self.start < n and -n <= self.end < n
        must = f"x must have axes {self.start} to {self.end}, in this order"
        self.need(inside and self.start % n <= self.end % n, must, x=x)
        start, end = self.start % n, self.end % n + 1
        return reshaped(x, (*x.shape[:start], math.prod(x.shape[start:end]), *x.shape[end:]))

    def backward(self, x, dy):
        return reshaped(dy, x.shape)


class Reshape(Module):
    """y = x in another shape, element after element in C order

    x (n, *s) -> y (n, *shape); batch=False: x (*s) -> y (*shape)

    shape: numbers; one may be -1 and is found from the others. batch: axis 0 stays as it is.
    Source: Torch7's nn.Reshape and nn.View.

    >>> Reshape(3, -1)(np.ones((2, 12))).shape, Reshape(-1, 3, batch=False)(np.ones((2, 12))).shape
    ((2, 3, 4), (8, 3))
    """

    def __init__(self, *shape, batch=True):
        shape = tuple(shape[0]) if shape and isinstance(shape[0], (tuple, list)) else shape
        fits = all(isinstance(v, int) and v >= -1 for v in shape) and shape.count(-1) <= 1
        self.need(fits, "shape must be whole numbers, one of them -1 at most", shape=shape)
        self.shape, self.batch = shape, batch

    def forward(self, x):
        kept = int(self.batch)
        self.need(x.ndim >= kept, "x must be (n, *)", x=x)
        size, known = math.prod(x.shape[kept:]), math.prod(v for v in self.shape if v != -1)
        fits = known > 0 and size % known == 0 if -1 in self.shape else size == known
        self.need(fits, f"x must fit into {'(n, *)' * kept or 'the'} shape {self.shape}", x=x)
        inner = tuple(size // known if v == -1 else v for v in self.shape)
        return reshaped(x, (*x.shape[:kept], *inner))

    def backward(self, x, dy):
        return reshaped(dy, x.shape)


def reshaped(x, shape):
    """x in another shape: a view where it is contiguous, else a copy."""
    return kernels.of(x).contiguous(x).reshape(shape)
