"""Random networks of images: C against the reference, optimised and recorded against plain."""

import numpy as np

from flambeau import kernels, nn, nngraph
from flambeau.nngraph.recorded import misfit

from random_draws import Draw, Within, agree, sums

EVALUATED = sums(1, 4000)  # ten layers, each a sum of some hundred products or Winograd's
TRAINED = sums(1, 10000)  # and normalisations, whose small variances make errors greater
FEW = 0.02  # of the gradients may be other where a ReLU or a maximum falls to the other side
SHAKEN = 128 * np.finfo("f4").eps  # what may be off by less where a gradient hangs on it
SHAKES = 12  # each finds one side of a maximum or the other


def layer(draw, c, h):
    """A random module for images (n, c, h, h)."""
    kind = draw.whole(0, 99)
    if kind < 35:
        kernel = draw.pick((1, 1), (1, 1), (3, 3), (3, 3), (3, 3), (5, 5), (3, 1))
        stride, dilation = draw.pick(1, 1, 1, 2), draw.pick(1, 1, 1, 2)
        same = tuple((t - 1) * dilation // 2 for t in kernel)
        out = draw.pick(3, 4, 8, 16, 17, 32, 33, 40, 64)
        padding, bias = draw.pick(0, 1, same), draw.chance(0.7)
        return nn.Conv2d(c, out, kernel, stride, padding, dilation, bias=bias)
    if kind < 47:
        options = draw.pick(3, 3, 5), draw.pick(1, 1, 2), draw.pick(1, 2)
        return nn.Conv2d(c, c * draw.pick(1, 1, 2), *options, groups=c, bias=draw.chance(0.7))
    if kind < 52 and c % 2 == 0:
        return nn.Conv2d(c, 2 * draw.pick(4, 8, 16, 20), 3, 1, 1, groups=2)
    if kind < 66:
        norm = nn.BatchNorm2d(c)
        norm.running_mean[:] = 0.3 * draw.random.standard_normal(c)
        norm.running_var[:] = draw.random.uniform(0.5, 2, c)
        norm.bias[:] = draw.random.uniform(0.1, 1, c)  # or whole borders would be 0 for a ReLU
        return norm
    if kind < 80:
        functions = nn.ReLU, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Sigmoid, nn.SiLU, nn.PReLU, nn.ELU
        return draw.pick(*functions)()
    if kind < 88 and h >= 4:
        if draw.chance(0.3):
            return nn.AvgPool2d(*draw.pick((2,), (3, 1, 1)))
        return nn.MaxPool2d(*draw.pick((2,), (3, 2, 1), (3, 1, 1)), ceil_mode=draw.chance(0.25))
    if kind < 94:
        return nn.ZeroPad2d(tuple(draw.whole(0, 2) for _ in range(4)))
    return nn.LocalResponseNorm(5)


def network(draw, c, h):
    """A graph of some layers, sums, products and joins on an image (n, c, h, h)."""
    x = nngraph.inputs("x")
    nodes = [(x, (2, c, h, h))]
    for _ in range(draw.whole(2, 10)):
        node, shape = draw.pick(*nodes[-2:])
        others = [(o, s) for o, s in nodes if s[2:] == shape[2:] and o is not node]
        if others and draw.chance(0.35):
            other, its = draw.pick(*others)
            if its == shape and draw.chance(0.6):
                new = draw.pick(nn.Add, nn.Add, nn.Mul)()(node, other)
                new = nn.ReLU()(new) if draw.chance(0.3) else new
            else:
                new, shape = nn.JoinTable(1)(node, other), (2, shape[1] + its[1], *shape[2:])
        else:
            module = layer(draw, shape[1], shape[2])
            try:
                shape = module(np.zeros(shape, "f4")).shape
            except ValueError:  # too small for this one
                continue
            if np.prod(shape) > 2e5:
                continue
            new = module(node)
        nodes.append((new, tuple(shape)))
    if len(nodes) < 2:
        return None
    outs = [nodes[-1][0]]
    if len(nodes) > 3 and draw.chance(0.15):
        outs.append(draw.pick(*nodes[1:-1])[0])
    return nngraph.Graph(x, outs if len(outs) > 1 else outs[0])


def tuples(y):
    return y if isinstance(y, tuple) else (y,)


def compare(what, got, want, within):
    agree(what, tuples(got), tuples(want), within, np.finfo("f4").eps)


def compare_gradients(names, got, want, shaken):
    """Gradients are near; few may be as far as they are in float64 once values are a little off.

    Such are those beyond a ReLU or a maximum that may fall to the other side, and sums of terms
    that cancel, as of a bias before a normalisation: there are seldom more than few.
    shaken(): the gradients in float64, and again with every value a little off.
    """
    exact = None
    for i, name in enumerate(names):
        near = 1e-3 * max(1, np.abs(want[i]).max(initial=0))
        far = np.abs(got[i] - want[i]) > near
        if far.any():
            if exact is None:
                exact, *others = shaken()
            spread = np.max([np.abs(other[i] - exact[i]) for other in others], axis=0)
            wrong = far & (np.abs(got[i] - exact[i]) > near + spread)
            assert not wrong.any(), f"{name}: {wrong.mean():.1%} are wrong"
        assert far.mean() < FEW, f"{name}: {far.mean():.1%} hang on rounding"


def shake(net, random):
    """Let every module's results be off by SHAKEN of them, forward and backward."""

    def off(values):
        if isinstance(values, (list, tuple)):
            return type(values)(map(off, values))
        return values * (1 + SHAKEN * random.uniform(-1, 1, values.shape))

    def shaken(function):
        return lambda *args, **options: off(function(*args, **options))

    for module in net.find(nn.Module):
        if module is not net:
            module.forward, module.backward = shaken(module.forward), shaken(module.backward)


def step(net, x, dys):
    """(y, dx, gradients) of a step in training."""
    net.zero_grad()
    y = net(x)
    dx = net.backward(x, dys if len(dys) > 1 else dys[0])
    return y, dx, [g.copy() for g in net.gradients()]


def evaluate(draw, net, xs):
    """In evaluation: C is the reference, and the optimised network is the plain one."""
    net.eval()
    with kernels.use("reference"):
        wanted = [net(x) for x in xs]
    optimized = nngraph.optimize(net)
    for x, want in zip(xs, wanted, strict=True):
        compare("evaluated", net(x), want, EVALUATED)
        for _ in range(3):  # weights are kept, then the pass is recorded
            compare("optimised", optimized(x), want, EVALUATED)
    compare("optimised, again", optimized(xs[0]), wanted[0], EVALUATED)


def train(draw, net, x):
    """In training: C is the reference, and recorded steps are the same bits as plain ones."""
    net.train()
    buffers = [b for _, b in net.named_buffers() if isinstance(b, np.ndarray)]
    states = [b.copy() for b in buffers]

    def run(net, dys):
        for b, state in zip(buffers, states, strict=True):
            b[...] = state
        return step(net, x, dys)

    with kernels.use("reference"):
        dys = tuple(draw.values(*y.shape) for y in tuples(net(x)))
        want = run(net, dys)
        after = [b.copy() for b in buffers]

    def shaken():
        """Gradients in float64: as they are, then with all values a little off."""
        with kernels.use("reference"):
            for i in range(1 + SHAKES):
                other = net.clone().astype(np.float64)
                if i > 0:
                    shake(other, draw.random)
                _, dx, gradients = step(other, x.astype("f8"), [dy.astype("f8") for dy in dys])
                yield dx, *gradients

    dys = tuple(arranged(dy, y) for dy, y in zip(dys, tuples(net(x)), strict=True))
    got = run(net, dys)
    compare("trained", got[0], want[0], TRAINED)
    names = ["dx", *(f"gradient of {name}" for name, _ in net.named_parameters())]
    compare_gradients(names, [got[1], *got[2]], [want[1], *want[2]], shaken)
    compare("running statistics", tuple(buffers), tuple(after), TRAINED)
    if misfit(net) is None:
        recorded = nngraph.Recorded(net)
        for _ in range(3):
            compare("recorded", run(recorded, dys)[:2], got[:2], Within(0))
            compare("recorded gradients", tuple(run(recorded, dys)[2]), tuple(got[2]), Within(0))


def arranged(dy, y):
    """dy in the memory order of y, so that recorded sums are taken in the same order."""
    order = sorted(range(y.ndim), key=lambda i: -y.strides[i])
    return np.ascontiguousarray(dy.transpose(order)).transpose(np.argsort(order))


def run(make, seed):
    """A network that a seed draws, in evaluation and in training. A failure tells the seed."""
    draw = Draw(seed)
    draw.dtype = np.dtype("f4")
    nn.seed(seed)
    before = kernels.get_num_threads()
    net = None
    try:
        with kernels.use("cpu"), np.errstate(all="ignore"):
            kernels.set_num_threads(draw.pick(1, 2, 2, 3))
            c, h = draw.pick(1, 3, 3, 4, 16, 17, 32), draw.pick(7, 8, 14, 16, 21, 28)
            net = make(draw, c, h)
            if net is not None:
                sizes = draw.pick(1, 2, 5), 3
                evaluate(draw, net, [draw.array(n, c, h, h) for n in sizes])
                x = draw.random.standard_normal((draw.pick(2, 5), c, h, h)).astype("f4")
                train(draw, net, draw.laid(x))
    except Exception as error:
        error.add_note(f"{make.__name__}, seed {seed}: {net!r}")
        raise
    finally:
        kernels.set_num_threads(before)
