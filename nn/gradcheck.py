"""Does backward agree with calculus?"""

import numpy as np

from flambeau import kernels
from flambeau.nn import random


class GradientError(ArithmeticError):
    """backward does not agree with the difference quotient of forward."""


def gradcheck(module, *inputs, eps=1e-6, tolerance=1e-6, directions=3):
    """Compare backward with difference quotients in float64, along random directions.

    For random v and dy, ⟨dy, f(x + εv) − f(x − εv)⟩/2ε must equal ⟨dx, v⟩ + ⟨dw, v_w⟩: two forward
    passes and one backward whatever the size. Works on a copy; every forward starts from the same
    random numbers and buffers, so that dropout and batch normalisation can be checked as well.

    inputs: arrays; integer arrays are held fixed. Returns the largest relative error.
    Raises GradientError with both numbers and the name of the input or parameter that disagrees.

    >>> from flambeau import nn
    >>> nn.gradcheck(nn.Linear(3, 2), np.ones((4, 3))) < 1e-6
    True

    Source: the directional check of HIPS autograd; Torch7's nn.Jacobian.
    """
    module = module.clone().astype(np.float64)
    generator = np.random.Generator(np.random.Philox(7))
    inputs = [_double(x) for x in inputs]
    x = inputs[0] if len(inputs) == 1 else tuple(inputs)
    state = [(m, name, _copy(getattr(m, name))) for m in module.modules() for name in m.buffers]

    def forward(x):
        random.seed(11)
        for m, name, value in state:
            setattr(m, name, _copy(value))
        return module.forward(x)

    y = forward(x)
    dy = _map(lambda a: _like(a, np.asarray(generator.standard_normal(a.shape))), y)
    module.zero_grad()
    dx = module.backward(x, dy)
    grads = module.gradients()
    worst = 0.0
    floats = [
        (f"input {i}", a, d) for i, (a, d) in enumerate(zip(_flat(x), _flat(dx), strict=True))
    ]
    learned = [(n, a, g) for (n, a), g in zip(module.named_parameters(), grads, strict=True)]
    for name, array, grad in floats + [row for row in learned if row[2] is not None]:
        if array.dtype.kind != "f" or array.size == 0:
            continue
        for _ in range(directions):
            v = np.asarray(generator.standard_normal(array.shape))
            numeric = _slope(forward, x, array, v, dy, eps)
            analytic = float((_numpy(grad) * v).sum())
            scale = max(abs(numeric), abs(analytic), 1e-3 * float(np.sqrt((v * v).sum())))
            error = abs(numeric - analytic) / scale
            worst = max(worst, error)
            if not error <= tolerance:
                raise GradientError(
                    f"{module!r}: the gradient of {name} along a random direction must be "
                    f"{numeric:.9g} (difference quotient) — got {analytic:.9g} from backward"
                )
    return worst


def _slope(forward, x, array, v, dy, eps):
    """⟨dy, f(array + εv) − f(array − εv)⟩ / 2ε, by changing the array in place and back."""
    k = kernels.of(array)
    before = _numpy(array).copy()
    values = []
    for sign in (1, -1):
        k.assign(array, k.array(array, before + sign * eps * v))
        values.append(_map(lambda a: _numpy(a).copy(), forward(x)))
    k.assign(array, k.array(array, before))
    return sum(
        float((_numpy(d) * (a - b)).sum())
        for d, a, b in zip(_flat(dy), _flat(values[0]), _flat(values[1]), strict=True)
    ) / (2 * eps)


def _double(x):
    """A float64 copy in the same memory order; integers and tuples as they are."""
    if isinstance(x, tuple):
        return tuple(_double(v) for v in x)
    if x.dtype.kind != "f":
        return x
    return x.astype(np.float64) if isinstance(x, np.ndarray) else kernels.of(x).cast(x, np.float64)


def _copy(value):
    return value if value is None or isinstance(value, int) else kernels.of(value).copy(value)


def _like(a, values):
    return kernels.of(a).array(a, values)


def _numpy(a):
    return kernels.of(a).numpy(a)


def _map(function, y):
    return tuple(_map(function, v) for v in y) if isinstance(y, tuple) else function(y)


def _flat(y):
    return [a for v in y for a in _flat(v)] if isinstance(y, tuple) else [y]
