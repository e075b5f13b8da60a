"""Matrix products with learned weights."""

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.with_relu import WithReLU


class Linear(WithReLU):
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
        self.need_features(x)
        return kernels.of(x).linear(x, self.weight, self.bias)

    def need_features(self, x):
        """Raise ValueError unless x has the features along its last axis."""
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            self.need(False, f"x must be (*, {self.in_features})", x=x)

    def backward(self, x, dy):
        self.need_gradient(dy, (*x.shape[:-1], self.out_features))
        parameters = self.weight, self.grad_weight, self.grad_bias
        return kernels.of(x).linear_backward(x, dy, *parameters, self.want_dx)

    def forward_relu(self, x):
        self.need_features(x)
        return kernels.of(x).linear_relu(x, self.weight, self.bias)

    def backward_relu(self, x, y, dy):
        self.need_gradient(dy, y.shape)
        parameters = self.weight, self.grad_weight, self.grad_bias
        return kernels.of(x).linear_relu_backward(x, y, dy, *parameters, self.want_dx)
