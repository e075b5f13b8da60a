"""Modules that make one array of several."""

from flambeau import kernels
from flambeau.nn.containers import join
from flambeau.nn.module import Module


class Add(Module):
    """y = x_0 + x_1 + …

    tuple of arrays x_i (*s) of one shape -> y (*s)        Source: Torch7's nn.CAddTable.

    >>> Add()(np.ones(2), np.ones(2), np.ones(2)).tolist()
    [3.0, 3.0]
    """

    from_shape = True

    def __init__(self):
        pass

    def forward(self, x):
        _check(self, x)
        return kernels.of(x).add(list(x))

    def backward(self, x, dy):
        self.need_gradient(dy, x[0].shape)
        return (dy,) * len(x)  # no copies: gradients are never written to


class Mul(Module):
    """y = x_0 · x_1 · …

    tuple of arrays x_i (*s) of one shape -> y (*s)        Source: Torch7's nn.CMulTable.

    >>> Mul()(np.array([2.0, 3.0]), np.array([5.0, 7.0])).tolist()
    [10.0, 21.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        _check(self, x)
        return kernels.of(x).mul(list(x))

    def backward(self, x, dy):
        self.need_gradient(dy, x[0].shape)
        return tuple(kernels.of(x).mul_backward(list(x), dy))


class Max(Module):
    """y = max(x_0, x_1, …); the gradient goes to the greatest, to the first of equals

    tuple of arrays x_i (*s) of one shape -> y (*s)        Source: Torch7's nn.CMaxTable.

    >>> Max()(np.array([2.0, 3.0]), np.array([5.0, 1.0])).tolist()
    [5.0, 3.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        _check(self, x)
        return kernels.of(x).maximum(list(x))

    def backward(self, x, dy):
        self.need_gradient(dy, x[0].shape)
        return tuple(kernels.of(x).maximum_backward(list(x), dy))


class JoinTable(Module):
    """y = x_0, x_1, … one after another along an axis

    tuple of arrays, alike but for that axis -> y        Source: Torch7's nn.JoinTable.

    >>> JoinTable(1)(np.ones((2, 3)), np.ones((2, 4))).shape
    (2, 7)
    """

    def __init__(self, axis):
        self.axis = axis

    def forward(self, x):
        self.need(isinstance(x, tuple) and len(x) > 0, "x must be a tuple of arrays", x=x)
        return join(self, x, self.axis)

    def backward(self, x, dy):
        return tuple(kernels.of(dy).split(dy, [v.shape[self.axis] for v in x], self.axis))


class Chunk(Module):
    """y_0, y_1, … = x cut into equal parts along an axis

    x (*s), its axis a multiple of chunks -> tuple of arrays        Source: torch.chunk.

    >>> [part.shape for part in Chunk(2)(np.ones((3, 8)))]
    [(3, 4), (3, 4)]
    """

    def __init__(self, chunks, axis=1):
        self.chunks, self.axis = chunks, axis
        self.need(isinstance(chunks, int) and chunks > 0, "chunks must be positive", chunks=chunks)

    def forward(self, x):
        fits = -x.ndim <= self.axis < x.ndim and x.shape[self.axis] % self.chunks == 0
        self.need(fits, f"axis {self.axis} of x must divide into {self.chunks}", x=x)
        sizes = [x.shape[self.axis] // self.chunks] * self.chunks
        return tuple(kernels.of(x).split(x, sizes, self.axis))

    def backward(self, x, dy):
        return kernels.of(dy[0]).concatenate(list(dy), self.axis)


def _check(module, x):
    """Raise unless x is a tuple of arrays of one shape and dtype."""
    alike = (
        isinstance(x, tuple)
        and len(x) > 0
        and all(hasattr(v, "shape") for v in x)
        and all((v.shape, v.dtype) == (x[0].shape, x[0].dtype) for v in x)
    )
    module.need(alike, "x must be a tuple of arrays of one shape and dtype", x=x)
