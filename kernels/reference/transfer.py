"""Functions of one value by their kind, applied to every element.

x (*s) -> y (*s), with Φ the normal distribution, σ(x) = 1 / (1 + e⁻ˣ) and options a and b:

    gelu         x Φ(x)
    gelu_tanh    x σ(2u)        u = √(2/π) (x + 0.044715 x³); 2σ(2u) = 1 + tanh u
    silu         x σ(x)
    mish         x tanh ln(1 + eˣ)
    hardsigmoid  x / 6 + 1/2 held within [0, 1]
    hardswish    x · hardsigmoid x
    softsign     x / (1 + |x|)
    log_sigmoid  ln σ(x)
    tanhshrink   x − tanh x
    softshrink   x − a where x > a, x + a where x < −a, else 0
    hardshrink   0 where |x| ≤ a, else x
    threshold    b where x ≤ a, else x
    celu         x where x > 0, else a (e^(x / a) − 1)
    selu         b x where x > 0, else b a (eˣ − 1)

NaN stays NaN. Where x times a factor that goes to 0 has a limit at −∞, it is reached: x is held
where the factor is 0 already.
"""

import math

import numpy as np

from flambeau.kernels.reference.activation import sigmoid, sigmoid_backward, softplus


def transfer(x, kind, a, b):
    """y = the function of each element"""
    return FUNCTIONS[kind][0](x, a, b)


def transfer_backward(x, dy, kind, a, b):
    """dx = dy · the slope at each element"""
    return dy * FUNCTIONS[kind][1](x, a, b)


_complement = np.vectorize(math.erfc, otypes=["f8"])  # 1 − erf x; NumPy has neither


def _normal(x):
    """Φ(x) = (1 + erf(x / √2)) / 2, exact in the tail"""
    return (_complement(x * -math.sqrt(0.5)) / 2).astype(x.dtype)


def _gelu(x, a, b):
    return np.maximum(x, -100) * _normal(x)


def _gelu_slope(x, a, b):
    x = np.clip(x, -100, 100)
    return _normal(x) + x * np.exp(x * x / -2) / math.sqrt(2 * math.pi)


def _gelu_tanh(x, a, b):
    return np.maximum(x, -100) * sigmoid(_cubic(np.clip(x, -100, 100)))


def _gelu_tanh_slope(x, a, b):
    x = np.clip(x, -100, 100)
    u, rise = _cubic(x), math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return sigmoid(u) + x * sigmoid_backward(u, rise)


def _cubic(x):
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x)


def _silu(x, a, b):
    return np.maximum(x, -1e4) * sigmoid(x)


def _silu_slope(x, a, b):
    return sigmoid(x) + sigmoid_backward(x, np.clip(x, -1e4, 1e4))


def _mish(x, a, b):
    return np.maximum(x, -1e4) * np.tanh(softplus(x, 1))


def _mish_slope(x, a, b):
    y = np.tanh(softplus(x, 1))
    return y + np.clip(x, -1e4, 1e4) * (1 - y * y) * sigmoid(x)


def _hardsigmoid(x, a, b):
    return np.clip(x / 6 + 0.5, 0, 1)


def _hardsigmoid_slope(x, a, b):
    return ((x > -3) & (x < 3)).astype(x.dtype) / 6


def _hardswish(x, a, b):
    return np.maximum(x, -3) * _hardsigmoid(x, a, b)


def _hardswish_slope(x, a, b):
    return np.where(x < 3, np.where(x > -3, x / 3 + 0.5, x.dtype.type(0)), x.dtype.type(1))


def _softsign(x, a, b):
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(x), np.sign(x), x / (1 + np.abs(x)))


def _softsign_slope(x, a, b):
    return (1 / (1 + np.abs(x))) ** 2


def _log_sigmoid(x, a, b):
    return -softplus(-x, 1)


def _log_sigmoid_slope(x, a, b):
    return sigmoid(-x)


def _tanhshrink(x, a, b):
    return x - np.tanh(x)


def _tanhshrink_slope(x, a, b):
    return np.tanh(x) ** 2


def _softshrink(x, a, b):
    return x - np.clip(x, -a, a)


def _hardshrink(x, a, b):
    return np.where(np.abs(x) <= a, x.dtype.type(0), x)


def _shrink_slope(x, a, b):
    return (np.abs(x) > a).astype(x.dtype)


def _threshold(x, a, b):
    return np.where(x <= a, x.dtype.type(b), x)


def _threshold_slope(x, a, b):
    return (x > a).astype(x.dtype)


def _celu(x, a, b):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0) / a) * a)


def _celu_slope(x, a, b):
    return np.exp(np.minimum(x, 0) / a)


def _selu(x, a, b):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * a) * b


def _selu_slope(x, a, b):
    return np.where(x > 0, x.dtype.type(1), np.exp(np.minimum(x, 0)) * a) * b


FUNCTIONS = {  # kind: (function, slope)
    "gelu": (_gelu, _gelu_slope),
    "gelu_tanh": (_gelu_tanh, _gelu_tanh_slope),
    "silu": (_silu, _silu_slope),
    "mish": (_mish, _mish_slope),
    "hardsigmoid": (_hardsigmoid, _hardsigmoid_slope),
    "hardswish": (_hardswish, _hardswish_slope),
    "softsign": (_softsign, _softsign_slope),
    "log_sigmoid": (_log_sigmoid, _log_sigmoid_slope),
    "tanhshrink": (_tanhshrink, _tanhshrink_slope),
    "softshrink": (_softshrink, _shrink_slope),
    "hardshrink": (_hardshrink, _shrink_slope),
    "threshold": (_threshold, _threshold_slope),
    "celu": (_celu, _celu_slope),
    "selu": (_selu, _selu_slope),
}
KINDS = tuple(FUNCTIONS)
