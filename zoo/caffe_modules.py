"""Layers that only Caffe's networks have: they go by the shapes that meet them."""

import math

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.module import Module


class Crop(Module):
    """y = the part of x from `offset` on that is as large as the reference, in the last axes

    (x, reference) -> y; of the reference only the shape matters, and its gradient is 0.

    axis: the first that is cut

    offset: one number, or one for each axis.        Source: Caffe's CropLayer.

    >>> import numpy as np
    >>> Crop(2, 1)(np.zeros((1, 3, 8, 8), "f4"), np.zeros((1, 9, 5, 6), "f4")).shape
    (1, 3, 5, 6)
    """

    def __init__(self, axis=2, offset=0):
        self.axis, self.offset = axis, offset

    def forward(self, x):
        x, reference = x
        for axis, offset, size in self.windows(x, reference):
            rest = x.shape[axis] - offset - size
            fits = x.ndim == reference.ndim and rest >= 0
            self.need(fits, f"x must reach {offset + size} in axis {axis}", x=x)
            x = _pieces(x, (offset, size, rest), axis)[1]
        return x

    def backward(self, x, dy):
        x, reference = x
        for axis, offset, size in self.windows(x, reference):
            before = _zeros(dy, offset, axis)
            after = _zeros(dy, x.shape[axis] - offset - size, axis)
            dy = kernels.of(dy).concatenate([*before, dy, *after], axis)
        return dy, kernels.of(dy).zeros(reference, reference.shape, reference.dtype)

    def windows(self, x, reference):
        """(axis, offset, size) of each axis that is cut."""
        axes = range(self.axis % x.ndim, x.ndim)
        offsets = self.offset if isinstance(self.offset, tuple) else [self.offset] * len(axes)
        return list(zip(axes, offsets, [reference.shape[axis] for axis in axes], strict=True))


def _pieces(x, sizes, axis):
    """x split along an axis; None where a size is 0."""
    found = iter(kernels.of(x).split(x, [size for size in sizes if size], axis))
    return [next(found) if size else None for size in sizes]


def _zeros(dy, width, axis):
    """A list of one block of zeros that wide, as it fits beside dy along the axis, or of none."""
    shape = (*dy.shape[:axis], width, *dy.shape[axis + 1 :])
    return [kernels.of(dy).zeros(dy, shape, dy.dtype)] if width else []


class Slice(Module):
    """y = (x[:p_1], x[p_1:p_2], …) along an axis

    x -> tuple of its pieces.

    points: where to cut; a number: into so many equal pieces.        Source: Caffe's SliceLayer.

    >>> import numpy as np
    >>> [y.shape for y in Slice(1, (2, 5))(np.zeros((1, 6), "f4"))]
    [(1, 2), (1, 3), (1, 1)]
    """

    def __init__(self, axis, points):
        self.axis, self.points = axis, points

    def forward(self, x):
        return tuple(kernels.of(x).split(x, self.sizes(x.shape), self.axis))

    def backward(self, x, dy):
        return kernels.of(dy).concatenate(list(dy), self.axis)

    def sizes(self, shape):
        """The sizes of the pieces of an x of that shape."""
        n = shape[self.axis]
        if isinstance(self.points, int):
            self.need(n % self.points == 0, f"axis {self.axis} must be divisible", shape=shape)
            return [n // self.points] * self.points
        ends = (*self.points, n)
        sizes = [end - start for start, end in zip((0, *self.points), ends, strict=True)]
        self.need(min(sizes) > 0, f"axis {self.axis} must be longer", shape=shape)
        return sizes


class Reshape(Module):
    """y = x in another shape: 0 copies a size of x, -1 is what is left

    x (*s, *old, *t) -> y (*s, *dims, *t), where old are `num_axes` axes from `axis` on (-1: all).
    Source: Caffe's ReshapeLayer.

    >>> import numpy as np
    >>> Reshape((0, 2, -1))(np.zeros((3, 8), "f4")).shape
    (3, 2, 4)
    """

    def __init__(self, dims, axis=0, num_axes=-1):
        self.dims, self.axis, self.num_axes = tuple(dims), axis, num_axes

    def forward(self, x):
        return kernels.of(x).contiguous(x).reshape(self.shape(x.shape))

    def backward(self, x, dy):
        return kernels.of(dy).contiguous(dy).reshape(x.shape)

    def shape(self, old):
        """The shape that an x of shape `old` gets."""
        start = self.axis if self.axis >= 0 else len(old) + self.axis + 1
        end = len(old) if self.num_axes < 0 else start + self.num_axes
        self.need(0 <= start <= end <= len(old), "x must have more axes", x=tuple(old))
        dims = list(self.dims)
        for i, size in enumerate(dims):
            if size == 0:
                self.need(start + i < len(old), f"x must have {start + i + 1} axes", x=tuple(old))
                dims[i] = old[start + i]
        new = [*old[:start], *dims, *old[end:]]
        if -1 in new:
            rest = math.prod(size for size in new if size != -1)
            new[new.index(-1)] = math.prod(old) // rest if rest else 0
        fits = min(new, default=0) >= 0 and math.prod(new) == math.prod(old)
        self.need(fits, f"x must fit into {self.dims}", x=tuple(old))
        return tuple(new)


class GlobalMaxPool2d(Module):
    """y = the largest value of each plane

    x (n, c, h, w) -> y (n, c, 1, 1)        Source: Caffe's PoolingLayer with global_pooling.

    >>> import numpy as np
    >>> GlobalMaxPool2d()(np.arange(12, dtype="f4").reshape(1, 2, 2, 3)).ravel().tolist()
    [5.0, 11.0]
    """

    def forward(self, x):
        self.need(x.ndim == 4, "x must be (n, c, h, w)", x=x)
        y, self.saved = self.pool(x, self.training)
        return y

    def backward(self, x, dy):
        index = self.pool(x)[1] if self.saved is None else self.saved
        return kernels.of(dy).max_pool2d_backward(dy, index, x.shape[2:])

    def pool(self, x, want_index=True):
        """The largest values, and where they lie or None."""
        return kernels.of(x).max_pool2d(x, x.shape[2:], (1, 1), (0, 0), (1, 1), False, want_index)


class Bias(Module):
    """y = x + b, one number for each channel

    x (n, c, *s) -> y (n, c, *s)        bias (c,): 0.        Source: Caffe's BiasLayer.

    >>> import numpy as np
    >>> Bias(2)(np.ones((1, 2), "f4")).tolist()
    [[1.0, 1.0]]
    """

    params = ("bias",)

    def __init__(self, num_features):
        self.bias = init.full((num_features,), 0)

    def forward(self, x):
        c = self.bias.shape[0]
        self.need(x.ndim > 1 and x.shape[1] == c, f"x must be (n, {c}, *)", x=x)
        return kernels.of(x).channel_scale(x, None, self.bias)

    def backward(self, x, dy):
        k = kernels.of(x)
        return k.channel_scale_backward(x, dy, None, None, self.grad_bias, self.want_dx)
