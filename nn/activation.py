"""Transfer functions: applied to every element."""

from flambeau import kernels
from flambeau.nn.init import full
from flambeau.nn.module import Module


class ReLU(Module):
    """y = max(x, 0)

    x (*s) -> y (*s)        Source: Torch7's nn.ReLU.

    >>> ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    from_output = True

    def __init__(self, inplace=False):
        pass  # inplace is taken for PyTorch's sake: results are always new arrays

    def forward(self, x):
        return kernels.of(x).relu(x)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).relu_backward(x, dy)


class Clamp(Module):
    """y = x held within [min_value, max_value]; the gradient passes strictly between them

    x (*s) -> y (*s)        Source: Torch7's nn.Clamp and nn.HardTanh.

    >>> Clamp(-1, 1)(np.array([-3.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """

    from_output = True

    def __init__(self, min_value, max_value):
        self.min_value, self.max_value = float(min_value), float(max_value)
        self.need(self.min_value <= self.max_value, "min_value must not exceed max_value")

    def forward(self, x):
        return kernels.of(x).clamp(x, self.min_value, self.max_value)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).clamp_backward(x, dy, self.min_value, self.max_value)


class ReLU6(Module):
    """y = min(max(x, 0), 6)

    x (*s) -> y (*s)        Source: Torch7's nn.ReLU6.

    >>> ReLU6()(np.array([-1.0, 2.0, 7.0])).tolist()
    [0.0, 2.0, 6.0]
    """

    from_output = True

    def __init__(self, inplace=False):
        pass  # as in ReLU

    def forward(self, x):
        return kernels.of(x).clamp(x, 0.0, 6.0)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).clamp_backward(x, dy, 0.0, 6.0)


class LeakyReLU(Module):
    """y = x where x > 0, else negative_slope · x

    x (*s) -> y (*s)        Source: Maas et al. 2013; Torch7's nn.LeakyReLU.

    >>> LeakyReLU(0.1)(np.array([-1.0, 2.0])).tolist()
    [-0.1, 2.0]
    """

    def __init__(self, negative_slope=0.01, inplace=False):
        self.negative_slope = float(negative_slope)

    def forward(self, x):
        return kernels.of(x).leaky_relu(x, self.negative_slope)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).leaky_relu_backward(x, dy, self.negative_slope)


class PReLU(Module):
    """y = x where x > 0, else w x

    x (*s), or (n, num_parameters, *s) for more than one -> y of that shape

    weight (num_parameters,): init.        Source: He et al. 2015; Torch7's nn.PReLU.

    >>> PReLU()(np.array([-1.0, 2.0], "f4")).tolist()
    [-0.25, 2.0]
    """

    params = ("weight",)

    def __init__(self, num_parameters=1, init=0.25):
        self.num_parameters = num_parameters
        self.need(num_parameters > 0, "num_parameters must be positive")
        self.weight = full((num_parameters,), init)

    def forward(self, x):
        c = self.num_parameters
        self.need(c == 1 or (x.ndim >= 2 and x.shape[1] == c), f"x must be (n, {c}, *)", x=x)
        return kernels.of(x).prelu(x, self.weight)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).prelu_backward(x, dy, self.weight, self.grad_weight, self.want_dx)


class ELU(Module):
    """y = x where x > 0, else alpha · (eˣ − 1)

    x (*s) -> y (*s)        Source: Clevert et al. 2016; Torch7's nn.ELU.

    >>> ELU()(np.array([-1e3, 2.0])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, alpha=1.0, inplace=False):
        self.alpha = float(alpha)

    def forward(self, x):
        return kernels.of(x).elu(x, self.alpha)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).elu_backward(x, dy, self.alpha)


class Sigmoid(Module):
    """y = 1 / (1 + e⁻ˣ)

    x (*s) -> y (*s)        Source: Torch7's nn.Sigmoid.

    >>> Sigmoid()(np.array([-1e3, 0.0, 1e3])).tolist()
    [0.0, 0.5, 1.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        self.need_floats(x)
        return kernels.of(x).sigmoid(x)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).sigmoid_backward(x, dy)


class Tanh(Module):
    """y = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)

    x (*s) -> y (*s)        Source: Torch7's nn.Tanh.

    >>> Tanh()(np.array([-1e3, 0.0, 1e3])).tolist()
    [-1.0, 0.0, 1.0]
    """

    def __init__(self):
        pass

    def forward(self, x):
        return kernels.of(x).tanh(x)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).tanh_backward(x, dy)


class Softplus(Module):
    """y = ln(1 + e^(beta · x)) / beta

    x (*s) -> y (*s); exact for every x, where PyTorch takes y = x from beta · x = 20 on.
    Source: Torch7's nn.SoftPlus.

    >>> Softplus()(np.array([-1e3, 1e3])).tolist()
    [0.0, 1000.0]
    """

    def __init__(self, beta=1.0):
        self.beta = float(beta)
        self.need(self.beta > 0, "beta must be positive")

    def forward(self, x):
        return kernels.of(x).softplus(x, self.beta)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).softplus_backward(x, dy, self.beta)
