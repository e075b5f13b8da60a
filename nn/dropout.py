"""Dropout."""

from flambeau import kernels
from flambeau.nn import random
from flambeau.nn.module import Module


class Dropout(Module):
    """y = x / (1 − p) with probability 1 − p, else 0; in evaluation y = x

    x (*s) -> y (*s)

    The mask is drawn by a counter-based generator, so that `saved` is only (key, counter): a seed
    gives the same mask on every device. Source: Srivastava et al. 2014; Torch7's nn.Dropout.

    >>> Dropout(0.5).eval()(np.ones(3)).tolist()
    [1.0, 1.0, 1.0]
    """

    def __init__(self, p=0.5, inplace=False):
        self.p = float(p)
        self.need(0 <= self.p <= 1, "p must be from 0 to 1", p=p)

    def forward(self, x):
        self.saved = None
        if not self.training:
            return x
        self.need_floats(x)
        self.saved = random.reserve(x.size)
        return kernels.of(x).dropout(x, self.p, *self.saved)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(dy).dropout(dy, self.p, *self.saved) if self.saved else dy
