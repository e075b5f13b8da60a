"""Zeros along one axis."""

from flambeau import kernels
from flambeau.nn.module import Module


class Padding(Module):
    """y = zeros, x, zeros one after another along an axis

    x (*s) -> y, alike but for that axis, where it has before + after entries more

    Sources: Torch7's nn.Padding; as the shortcut of a residual network, with axis 1, option A of
    arXiv:1512.03385.

    >>> Padding(1, 1, 2)(np.ones((1, 2), "f4")).tolist()
    [[0.0, 1.0, 1.0, 0.0, 0.0]]
    """

    def __init__(self, axis, before, after=0):
        self.axis, self.before, self.after = axis, before, after
        self.need(isinstance(axis, int), "axis must be an integer", axis=axis)
        for name, count in (("before", before), ("after", after)):
            fits = isinstance(count, int) and count >= 0
            self.need(fits, f"{name} must be 0 or more", **{name: count})

    def forward(self, x):
        self.need(hasattr(x, "shape") and -x.ndim <= self.axis < x.ndim, self._must(), x=x)
        k = kernels.of(x)
        shape = list(x.shape)
        parts = [x]
        for place, count in ((0, self.before), (len(parts) + 1, self.after)):
            if count:
                shape[self.axis] = count
                parts.insert(place, k.zeros(x, tuple(shape), x.dtype))
        return k.concatenate(parts, self.axis)

    def backward(self, x, dy):
        sizes = [self.before, x.shape[self.axis], self.after]
        return kernels.of(dy).split(dy, sizes, self.axis)[1] if self.want_dx else None

    def _must(self):
        return f"x must have an axis {self.axis}"
