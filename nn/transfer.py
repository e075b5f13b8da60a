"""Transfer functions by their kind: smooth gates, their piecewise linear likenesses, shrinkage."""

from flambeau import kernels
from flambeau.nn.module import Module


class Transfer(Module):
    """Abstract: y = f(x) of each element, x (*s) -> y (*s)

    A subclass names its `kind` of kernels/reference/transfer.py and that kind's two options.
    """

    kind, options = "", (0.0, 0.0)

    def forward(self, x):
        self.need_floats(x)
        return kernels.of(x).transfer(x, self.kind, *self.options)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).transfer_backward(x, dy, self.kind, *self.options)


class GELU(Transfer):
    """y = x Φ(x), Φ the normal distribution's

    approximate "tanh": y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2

    x (*s) -> y (*s)        Source: Hendrycks and Gimpel 2016.

    >>> GELU()(np.array([-1e3, 0.0, 1e3])).tolist()
    [-0.0, 0.0, 1000.0]
    """

    def __init__(self, approximate="none"):
        self.need(
            approximate in ("none", "tanh"),
            f"approximate must be 'none' or 'tanh' — got {approximate!r}",
        )
        self.kind = "gelu" if approximate == "none" else "gelu_tanh"


class SiLU(Transfer):
    """y = x σ(x) = x / (1 + e⁻ˣ)

    x (*s) -> y (*s)        Source: Elfwing et al. 2017; the Swish of Ramachandran et al. 2017.

    >>> SiLU()(np.array([0.0, 1e3])).tolist()
    [0.0, 1000.0]
    """

    kind = "silu"

    def __init__(self, inplace=False):
        pass  # inplace is taken for PyTorch's sake: results are always new arrays


class Mish(Transfer):
    """y = x tanh(ln(1 + eˣ))

    x (*s) -> y (*s)        Source: Misra 2019.

    >>> Mish()(np.array([0.0, 1e3])).tolist()
    [0.0, 1000.0]
    """

    kind = "mish"

    def __init__(self, inplace=False):
        pass  # as in SiLU


class Hardsigmoid(Transfer):
    """y = x / 6 + 1/2 held within [0, 1]

    x (*s) -> y (*s)        Source: Howard et al. 2019 (MobileNetV3).

    >>> Hardsigmoid()(np.array([-4.0, 0.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    kind = "hardsigmoid"

    def __init__(self, inplace=False):
        pass  # as in SiLU


class Hardswish(Transfer):
    """y = x (x / 6 + 1/2 held within [0, 1])

    x (*s) -> y (*s)        Source: Howard et al. 2019 (MobileNetV3).

    >>> Hardswish()(np.array([-4.0, 0.0, 4.0])).tolist()
    [-0.0, 0.0, 4.0]
    """

    kind = "hardswish"

    def __init__(self, inplace=False):
        pass  # as in SiLU


class Softsign(Transfer):
    """y = x / (1 + |x|)

    x (*s) -> y (*s)        Source: Torch7's nn.SoftSign.

    >>> Softsign()(np.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """

    kind = "softsign"

    def __init__(self):
        pass


class LogSigmoid(Transfer):
    """y = ln(1 / (1 + e⁻ˣ)), with no overflow for any x

    x (*s) -> y (*s)        Source: Torch7's nn.LogSigmoid.

    >>> LogSigmoid()(np.array([-1e3, 0.0])).round(4).tolist()
    [-1000.0, -0.6931]
    """

    kind = "log_sigmoid"

    def __init__(self):
        pass


class Hardtanh(Module):
    """y = x held within [min_val, max_val]; the gradient passes strictly between them

    x (*s) -> y (*s)        Source: Torch7's nn.HardTanh.

    >>> Hardtanh()(np.array([-3.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """

    from_output = True

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False):
        self.min_val, self.max_val = float(min_val), float(max_val)
        self.need(self.min_val < self.max_val, "min_val must be less than max_val")

    def forward(self, x):
        return kernels.of(x).clamp(x, self.min_val, self.max_val)

    def backward(self, x, dy):
        self.need_gradient(dy, x.shape)
        return kernels.of(x).clamp_backward(x, dy, self.min_val, self.max_val)


class Tanhshrink(Transfer):
    """y = x − tanh x

    x (*s) -> y (*s)        Source: Torch7's nn.TanhShrink.

    >>> Tanhshrink()(np.array([0.0, 1e3])).tolist()
    [0.0, 999.0]
    """

    kind = "tanhshrink"

    def __init__(self):
        pass


class Softshrink(Transfer):
    """y = x − lambd where x > lambd, x + lambd where x < −lambd, else 0

    x (*s) -> y (*s)        Source: Torch7's nn.SoftShrink.

    >>> Softshrink()(np.array([-2.0, 0.25, 2.0])).tolist()
    [-1.5, 0.0, 1.5]
    """

    kind = "softshrink"

    def __init__(self, lambd=0.5):
        self.options = float(lambd), 0.0
        self.need(lambd >= 0, f"lambd must be 0 or more — got {lambd}")


class Hardshrink(Transfer):
    """y = 0 where |x| ≤ lambd, else x

    x (*s) -> y (*s)        Source: Torch7's nn.HardShrink.

    >>> Hardshrink()(np.array([-2.0, 0.25, 2.0])).tolist()
    [-2.0, 0.0, 2.0]
    """

    kind = "hardshrink"
    from_output = True

    def __init__(self, lambd=0.5):
        self.options = float(lambd), 0.0
        self.need(lambd >= 0, f"lambd must be 0 or more — got {lambd}")


class Threshold(Transfer):
    """y = x where x > threshold, else value

    x (*s) -> y (*s)        Source: Torch7's nn.Threshold.

    >>> Threshold(0.5, -1)(np.array([0.25, 2.0])).tolist()
    [-1.0, 2.0]
    """

    kind = "threshold"

    def __init__(self, threshold, value, inplace=False):
        self.options = float(threshold), float(value)


class CELU(Transfer):
    """y = x where x > 0, else alpha · (e^(x / alpha) − 1)

    x (*s) -> y (*s)        Source: Barron 2017.

    >>> CELU(2)(np.array([-1e3, 2.0])).tolist()
    [-2.0, 2.0]
    """

    kind = "celu"

    def __init__(self, alpha=1.0, inplace=False):
        self.options = float(alpha), 0.0
        self.need(alpha > 0, f"alpha must be positive — got {alpha}")


class SELU(Transfer):
    """y = λ x where x > 0, else λ α (eˣ − 1); keeps mean 0 and variance 1 from layer to layer

    x (*s) -> y (*s)        Source: Klambauer et al. 2017, α and λ from its equation 14.

    >>> SELU()(np.array([-1e3, 1.0])).round(6).tolist()
    [-1.758099, 1.050701]
    """

    kind, options = "selu", (1.6732632423543772, 1.0507009873554805)

    def __init__(self, inplace=False):
        pass  # as in SiLU
