"""Scaling, powers and other functions without parameters of their own but Scale's."""

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.module import Module


class Scale(Module):
    """y = w x + b in each channel

    x (n, c, *s) -> y (n, c, *s)

    weight (c,): ones, bias (c,): zeros.        Source: Caffe's Scale, Torch7's nn.CMul and nn.CAdd.

    >>> Scale(3)(np.ones((2, 3, 4), "f4")).shape
    (2, 3, 4)
    """

    params = "weight", "bias"

    def __init__(self, num_features, bias=True):
        self.num_features = num_features
        self.weight = init.full((num_features,), 1)
        self.bias = init.full((num_features,), 0) if bias else None

    def forward(self, x):
        fits = x.ndim >= 2 and x.shape[1] == self.num_features
        self.need(fits, f"x must be (n, {self.num_features}, *)", x=x)
        self.need_floats(x)
        return kernels.of(x).channel_scale(x, self.weight, self.bias)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).channel_scale_backward(
            x, dy, self.weight, self.grad_weight, self.grad_bias, self.want_dx
        )


class Affine(Module):
    """y = scale · x + shift, two fixed numbers

    x (*s) -> y (*s)        Source: Torch7's nn.MulConstant and nn.AddConstant.

    >>> Affine(2, 1)(np.array([1.0, 2.0])).tolist()
    [3.0, 5.0]
    """

    def __init__(self, scale=1.0, shift=0.0):
        self.scale, self.shift = float(scale), float(shift)

    def forward(self, x):
        return kernels.of(x).affine(x, self.scale, self.shift)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(dy).affine(dy, self.scale, 0.0)


class Power(Module):
    """y = x^exponent

    x (*s) -> y (*s); NaN where x is negative and the exponent no integer.
    Source: Torch7's nn.Power, nn.Square, nn.Sqrt.

    >>> Power(2)(np.array([1.0, 3.0])).tolist()
    [1.0, 9.0]
    """

    def __init__(self, exponent):
        self.exponent = float(exponent)

    def forward(self, x):
        return kernels.of(x).power(x, self.exponent)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).power_backward(x, dy, self.exponent)


class Exp(Module):
    """y = eˣ

    x (*s) -> y (*s)        Source: Torch7's nn.Exp.

    >>> Exp()(np.zeros(2)).tolist()
    [1.0, 1.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        return kernels.of(x).exp(x)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).exp_backward(x, dy)


class Log(Module):
    """y = ln x

    x (*s) -> y (*s); −∞ at 0, NaN below.        Source: Torch7's nn.Log.

    >>> Log()(np.ones(2)).tolist()
    [0.0, 0.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        return kernels.of(x).log(x)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).log_backward(x, dy)


class Abs(Module):
    """y = |x|; the gradient at 0 is 0

    x (*s) -> y (*s)        Source: Torch7's nn.Abs.

    >>> Abs()(np.array([-1.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        return kernels.of(x).abs(x)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).abs_backward(x, dy)
