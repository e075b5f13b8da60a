"""Matrix products with learned weights."""

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.module import Module


class Linear(Module):
    """y = x Wᵀ + b

    x (*s, i) -> y (*s, o)

    weight (o, i), bias (o,): uniform in ±1/√i.        Source: Torch7's nn.Linear.

    >>> Linear(3, 2)(np.ones((4, 3), "f4")).shape
    (4, 2)
    """

    params = "weight", "bias"

    def __init__(self, in_features, out_features, bias=True):
        self.in_features, self.out_features = in_features, out_features
        shape = out_features, in_features
        self.need(min(shape) > 0, "in_features and out_features must be positive", shape=shape)
        self.weight = init.fan_in(shape)
        self.bias = init.uniform((out_features,), in_features**-0.5) if bias else None

    def forward(self, x):
        fits = x.ndim > 0 and x.shape[-1] == self.in_features
        self.need(fits, f"x must be (*, {self.in_features})", x=x)
        return kernels.of(x).linear(x, self.weight, self.bias)

    def backward(self, x, dy):
        self.need_gradient(dy, (*x.shape[:-1], self.out_features))
        return kernels.of(x).linear_backward(
            x, dy, self.weight, self.grad_weight, self.grad_bias, self.want_dx
        )
