"""Random calls of the kernels of arrays of any shape: products, functions, sums, losses."""

from math import prod

import numpy as np

from flambeau.kernels.reference.transfer import KINDS

from random_draws import EXACT, Call, Within, sums

ROUNDED = Within(8)  # a few operations, each rounded
SERIES = Within(32)  # exponentials and what is made of them
BACK = Within(64)  # their slopes


def linear(draw):
    lead = draw.pick((), (1,), (2,), (draw.size(),), (3, draw.size(20)))
    i, o = draw.size(200), draw.size(200)
    if draw.chance(0.3):
        i, o = draw.whole(1, 1500), draw.whole(1, 600)
    x, w, b = draw.array(*lead, i), draw.values(o, i), draw.maybe(0.7, o)
    if draw.chance(0.3):
        w = draw.laid(w)
    for _ in range(2):
        yield Call("linear", (x, w, b), sums(i))
        if draw.chance(0.3):
            np.negative(w, w)  # of which nothing may be kept
    y = yield Call("linear_relu", (x, w, b), sums(i))
    dy, dw, db = draw.array(*lead, o), draw.maybe(0.85, o, i), draw.maybe(0.85, o)
    want, rows = draw.chance(0.8), prod(lead)
    yield Call("linear_backward", (x, dy, w, dw, db, want), sums(o), sums(rows))
    yield Call("linear_relu_backward", (x, y, dy, w, dw, db, want), sums(o), sums(rows))


def activation(draw):
    shape = draw.shape()
    functions = [("relu",), ("clamp", -1.0, 2.0), ("clamp", 0.0, 6.0), ("leaky_relu", 0.1)]
    functions += [("elu", draw.pick(1.0, 0.5)), ("sigmoid",), ("tanh",), ("exp",), ("abs",)]
    functions += [("log",), ("softplus", draw.pick(1.0, 2.0))]
    functions += [("power", draw.pick(2, 3, 0.5, -1.0, 1, 0))]
    for name, *options in functions:
        if draw.chance(0.6):
            continue
        x, dy = draw.special(*shape), draw.array(*shape)
        yield Call(name, (x, *options), SERIES)
        yield Call(f"{name}_backward", (x, dy, *options), BACK)


def prelu(draw):
    shape = draw.shape(least=2)
    x, dy, w = draw.array(*shape), draw.array(*shape), draw.values(draw.pick(1, shape[1]))
    yield Call("prelu", (x, w), ROUNDED)
    args = x, dy, w, draw.maybe(0.8, len(w)), draw.chance(0.8)
    yield Call("prelu_backward", args, ROUNDED, sums(x.size))


def transfer(draw):
    shape = draw.shape()
    for kind in KINDS:
        if draw.chance(0.7):
            continue
        x, options = draw.special(*shape), (kind, draw.pick(1.0, 0.5), draw.pick(1.0, 2.0))
        yield Call("transfer", (x, *options), SERIES)
        x = draw.laid(np.where(np.isfinite(x), x, 0).astype(x.dtype))
        yield Call("transfer_backward", (x, draw.array(*shape), *options), BACK)


def elementwise(draw):
    shape, n = draw.shape(), draw.whole(1, 4)
    xs = [draw.special(*shape) for _ in range(n)]
    for name in ("add", "mul", "maximum"):
        yield Call(name, (xs,), ROUNDED)
    xs, dy = [draw.array(*shape) for _ in range(n)], draw.array(*shape)
    for name in ("mul_backward", "maximum_backward"):
        yield Call(name, (xs, dy), ROUNDED)
    yield Call("affine", (xs[0], 2.0, -1.0), ROUNDED)
    axis = draw.whole(0, len(shape) - 1)
    parts = [draw.array(*shape[:axis], draw.size(), *shape[axis + 1 :]) for _ in range(n)]
    yield Call("concatenate", (parts, axis), EXACT)
    if len(shape) > 1:
        c = shape[1]
        w, b = draw.maybe(0.7, c), draw.maybe(0.7, c)
        yield Call("channel_scale", (xs[0], w, b), ROUNDED)
        args = xs[0], dy, w, draw.maybe(0.8, c), draw.maybe(0.8, c), True
        yield Call("channel_scale_backward", args, ROUNDED, sums(dy.size // c))


def softmax(draw):
    shape = draw.shape()
    axis = draw.whole(-len(shape), len(shape) - 1)
    x, dy = draw.special(*shape), draw.array(*shape)
    for name in ("softmax", "log_softmax"):
        yield Call(name, (x, axis), SERIES)
        if np.isfinite(x).all():
            yield Call(f"{name}_backward", (x, dy, axis), sums(shape[axis], 32))


def reduction(draw):
    shape = draw.shape()
    axis = draw.whole(0, len(shape) - 1)
    rest = shape[:axis] + shape[axis + 1 :]
    yield Call("sum_over", (draw.array(*shape), axis, 0.5), sums(shape[axis]))
    yield Call("sum_over_backward", (draw.array(*rest), axis, shape[axis], 0.5), ROUNDED)
    x, dy, greatest = draw.special(*shape), draw.array(*rest), draw.chance(0.5)
    yield Call("extreme_over", (x, axis, greatest), EXACT)
    yield Call("extreme_over_backward", (x, dy, axis, greatest), EXACT)


def loss(draw):
    n, c = draw.pick(1, 2, 5, 33), draw.size(60)
    rest = draw.pick((), (), (draw.size(10),), (3, draw.size(8)))
    target, ignored = draw.random.integers(0, c, (n, *rest)), draw.pick(-100, draw.whole(0, c - 1))
    if draw.chance(0.3):
        target, ignored = np.where(draw.random.random(target.shape) < 0.2, -100, target), -100
    x = draw.laid(draw.values(n, c, *rest) * draw.dtype.type(draw.pick(1, 1, 1, 1000)))
    w = np.abs(draw.values(c)) if draw.chance(0.4) else None
    near, smooth = sums(target.size, 16), draw.pick(0.0, 0.0, 0.1)
    yield Call("cross_entropy", (x, target, w, ignored, smooth), near)
    yield Call("cross_entropy_losses", (x, target, w, ignored, smooth), sums(c, 16))
    yield Call("cross_entropy_backward", (x, target, w, ignored, smooth, 0.3), sums(c, 16))
    yield Call("nll_loss", (x, target, w, ignored), near)
    yield Call("nll_losses", (x, target, w, ignored), ROUNDED)
    yield Call("nll_loss_backward", (x, target, w, ignored, 0.3), ROUNDED)
    y = draw.array(*x.shape)
    yield Call("mse_loss", (x, y), sums(x.size))
    yield Call("mse_loss_backward", (x, y, 0.7), ROUNDED)


def recurrent(draw):
    kind, t, n = draw.pick("lstm", "gru", "rnn"), draw.pick(1, 2, 5), draw.pick(1, 2, 7, 33)
    i, h, gates = draw.size(), draw.size(), {"lstm": 4, "gru": 3, "rnn": 1}[kind]

    def small(*shape):
        return draw.laid((0.3 * draw.random.standard_normal(shape)).astype(draw.dtype))

    state = [small(n, h) for _ in range(2 if kind == "lstm" else 1)]
    x, w_ih, w_hh = small(t, n, i), small(gates * h, i), small(gates * h, h)
    biased, extra = draw.chance(0.8), [draw.chance(0.5)] if kind == "rnn" else []
    biases = [small(gates * h) if biased else None for _ in range(2)]
    extra.append(draw.chance(0.5))  # backwards in time
    near = sums(t * (i + h))
    kept = yield Call(kind, (x, *state, w_ih, w_hh, *biases, *extra), near)
    kept = kept if isinstance(kept, tuple) else (kept,)
    dhs = [small(n, h) if draw.chance(0.6) else None for _ in state]
    grads = [small(*w.shape) for w in (w_ih, w_hh)]
    grads += [small(gates * h) if biased else None for _ in range(2)]
    if draw.chance(0.2):
        grads = [None] * 4
    args = x, *state, w_ih, w_hh, *kept, small(*kept[0].shape), *dhs, *grads, *extra
    summed = sums(t * gates * h, 16)
    yield Call(f"{kind}_backward", (*args, draw.chance(0.8)), summed, sums(t * n * gates, 16))


def embedding(draw):
    v, d = draw.size(), draw.size()
    x, w = draw.random.integers(0, v, draw.shape(most=2)), draw.special(v, d)
    yield Call("embedding", (x, w), EXACT)
    args = x, draw.array(*x.shape, d), draw.array(v, d), draw.pick(None, 0), draw.chance(0.5)
    yield Call("embedding_backward", args, sums(x.size))


def optim(draw):
    shapes = [draw.shape(most=2) for _ in range(draw.whole(1, 4))]

    def arrays(positive=False):
        drawn = [draw.array(*shape) for shape in shapes]
        for a in drawn if positive else ():
            np.abs(a, a)
        return drawn

    numbers = 0.1, 0.9, draw.pick(0.0, 0.3), draw.pick(0.0, 0.2), draw.chance(0.5)
    vs, first = arrays() if draw.chance(0.8) else None, draw.chance(0.3)
    if vs is None:
        numbers = 0.1, 0.0, 0.0, numbers[3], False
    yield Call("sgd_step", (arrays(), arrays(), vs, *numbers, first), ROUNDED)
    numbers = 0.01, 0.9, 0.99, 1e-3, draw.pick(0.0, 0.2), draw.chance(0.5)
    args = arrays(), arrays(), arrays(), arrays(True), draw.whole(1, 50), *numbers
    yield Call("adam_step", args, SERIES)


FAMILIES = (
    linear,
    activation,
    prelu,
    transfer,
    elementwise,
    softmax,
    reduction,
    loss,
    recurrent,
    embedding,
    optim,
)
