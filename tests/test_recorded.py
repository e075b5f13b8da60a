"""Steps of training from recordings give what the network's own steps give, bit by bit."""

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.nn import random
from flambeau.nngraph.recorded import KINDS

cpu = pytest.importorskip("flambeau.kernels.cpu")


def plain():
    """Convolutions, pooling, linear layers, as in VGG."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2, 2),
        nn.Conv2d(32, 16, 5, 2, bias=False),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(144, 20),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(20, 7),
    )


def residual():
    """Norms, sums, strides of two, as in ResNet."""
    x = nngraph.inputs("x")
    first = nn.ReLU()(nn.BatchNorm2d(16)(nn.Conv2d(3, 16, 3, padding=1)(x)), name="first")
    h = nn.ReLU()(nn.BatchNorm2d(16)(nn.Conv2d(16, 16, 3, padding=1)(first)))
    h = nn.ReLU()(nn.BatchNorm2d(16)(nn.Conv2d(16, 16, 1)(h)) + first)
    short = nn.BatchNorm2d(32)(nn.Conv2d(16, 32, 1, 2, bias=False)(h), name="short")
    h = nn.ReLU()(nn.BatchNorm2d(16)(nn.Conv2d(16, 16, 3, 2, padding=1, bias=False)(h)))
    h = nn.ReLU()(nn.BatchNorm2d(32)(nn.Conv2d(16, 32, 1, bias=False)(h)) + short)
    h = nn.BatchNorm1d(32)(nn.Flatten()(nn.AdaptiveAvgPool2d(1)(h)))
    return nngraph.Graph(x, nn.Linear(32, 7)(h))


def branched():
    """Branches that are joined, local response norm, depthwise and dilated convolutions."""
    left = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU6(), nn.Conv2d(16, 16, 3, groups=16))
    right = nn.Sequential(nn.Conv2d(3, 24, 3, dilation=1), nn.Tanh(), nn.LocalResponseNorm(3))
    table = nn.ConcatTable(nn.Identity(), nn.Scale(40), nn.Sigmoid())
    return nn.Sequential(
        nn.Concat(1, left, right),
        nn.AvgPool2d(2, 2),
        table,
        nn.ParallelTable(nn.Identity(), nn.Identity(), nn.Conv2d(40, 40, 1)),
        nn.Add(),
        nn.Conv2d(40, 8, 3, dilation=2),
        nn.Flatten(),
        nn.Linear(8 * 25, 7),
        nn.LogSoftmax(1),
    )


def tied():
    """A module that occurs twice, an output that is a ReLU's, and a softmax inside."""
    layer = nn.Linear(48, 48)
    x = nngraph.inputs("x")
    h = nn.Softmax(1)(layer(nn.Tanh()(layer(nn.Flatten()(x)))))
    return nngraph.Graph(x, nn.JoinTable(1)(nn.ReLU()(nn.Linear(48, 9)(h)), h))


NETWORKS = {  # with the size of their images
    plain: 20,
    residual: 20,
    branched: 20,
    tied: 4,
}


def pair(build, dtype="f4"):
    """A recorded network, and the same one by itself."""
    nn.seed(3)
    net = build().astype(dtype).train()
    return nngraph.Recorded(net), net.clone()


def images(seed, n=2, size=20, dtype="f4"):
    return np.random.default_rng(seed).normal(size=(n, 3, size, size)).astype(dtype)


def same(found, expected):
    """Arrays, numbers or Nones, or lists of them, of the same bits."""
    for a, b in zip(found, expected, strict=True):
        if a is None or b is None:
            assert a is b
        else:
            np.testing.assert_array_equal(a, b)


def step(net, x, seed=0):
    """A pass forward and backward; what came out, nothing cleared."""
    y = net(x)
    dy = np.random.default_rng(seed).normal(size=y.shape).astype(y.dtype)
    return y, net.backward(x, dy)


def agree(fast, own, x, seed=0):
    """A step of both, and all that the two have learned."""
    nn.seed(seed)  # of the numbers that dropout draws
    found = step(fast, x, seed), random.reserve(0)
    nn.seed(seed)
    expected = step(own, x, seed), random.reserve(0)
    same(found[0], expected[0])
    assert found[1] == expected[1]
    net = fast.network
    same(net.gradients(), own.gradients())
    same([b for _, b in net.named_buffers()], [b for _, b in own.named_buffers()])


def move(net):
    """A step of plain gradient descent."""
    for array, gradient in zip(net.parameters(), net.gradients(), strict=True):
        if gradient is not None:
            array -= 0.01 * gradient
            gradient[...] = 0


def recorded(fast):
    """The recordings that a network has."""
    return [r for r in vars(fast)["_made"].made.values() if r is not None]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_steps_are_the_same_before_while_and_after_they_are_recorded(build, dtype):
    fast, own = pair(build, dtype)
    for seed in range(6):
        agree(fast, own, images(seed, 2, NETWORKS[build], dtype), seed)
        assert len(recorded(fast)) == (seed > 1)
        move(fast.network), move(own)
    assert fast.refused is None
    assert len(recorded(fast)[0].back.calls) >= len(recorded(fast)[0].ahead.calls) > 5


def test_every_kind_is_in_one_of_the_networks():
    found = {type(m) for build in NETWORKS for m in build().modules()}
    assert found >= KINDS


def test_gradients_accumulate_until_they_are_cleared():
    fast, own = pair(residual)
    for seed in range(5):
        agree(fast, own, images(seed))
    fast.zero_grad(), own.zero_grad()
    agree(fast, own, images(7))


@pytest.mark.parametrize("build", NETWORKS, ids=lambda build: build.__name__)
def test_gradients_are_replaced_where_they_do_not_accumulate(build):
    fast, own = pair(build)
    fast.accumulates = False
    for seed in range(5):
        own.zero_grad()
        agree(fast, own, images(seed, 2, NETWORKS[build]), seed)
    assert fast.refused is None
    calls = recorded(fast)[0].back.calls
    cleared = [f.__name__.startswith("clear_") for f, _ in calls]
    replaced = [f.__name__.startswith("conv_weight") and not args[-1] for f, args in calls]
    gradients = {id(g) for g in fast.network.gradients() if g is not None}
    assert sum(cleared) + sum(replaced) >= len(gradients)
    assert not all(cleared[: len(gradients)])  # each in its turn
    fast.accumulates = True
    for seed in range(4):
        agree(fast, own, images(seed, 2, NETWORKS[build]), seed)


def test_what_no_kernel_adds_to_is_cleared_too():
    fast = nngraph.Recorded(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    fast.accumulates, x = False, np.ones((5, 4), "f4")
    for _ in range(4):
        y = fast(x)
        fast.network[0].grad_bias[...] = 7  # which the caller changed
        fast.backward(x, np.zeros_like(y))
        assert all(not g.any() for g in fast.gradients())


@pytest.mark.parametrize("build", [plain, residual])
def test_nobody_wants_the_gradient_of_the_input(build):
    fast, own = pair(build)
    for wanted in False, True, False:
        fast.want_dx = own.want_dx = wanted
        for seed in range(4):
            agree(fast, own, images(seed))
    assert len(recorded(fast)) == 2


def test_what_was_asked_of_the_network_itself_stays():
    fast, own = pair(plain)
    fast.network.backward_once, fast.network.want_dx = True, False
    for seed in range(5):
        agree(fast, own, images(seed))
        assert (fast.network.backward_once, fast.network.want_dx) == (True, False)
    assert recorded(fast)


def test_what_is_wanted_begins_as_the_network_has_it():
    network = plain().train()
    network.want_dx, network.backward_once = False, True
    fast, x = nngraph.Recorded(network), images(0)
    assert fast.backward_once
    for _ in range(4):
        y = fast(x)
        assert fast.backward(x, y) is None
    assert recorded(fast)


def test_forms_are_recorded_one_by_one():
    fast, own = pair(residual)
    for n, size in (2, 20), (3, 20), (2, 24), (2, 20):
        for seed in range(3):
            agree(fast, own, images(seed, n, size))
    assert len(recorded(fast)) == 3


def test_results_are_the_callers():
    fast, own = pair(plain)
    for seed in range(3):
        nn.seed(seed)
        y, dx = step(fast, images(seed))
        nn.seed(seed)
        expected = step(own, images(seed))
    step(fast, images(5))[0][...] = 7
    same((y, dx), expected)


def test_the_gradient_may_come_in_any_memory_order():
    fast, own = pair(lambda: nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Tanh()))
    orders = (0, 1, 2, 3), (3, 2, 1, 0), (0, 2, 3, 1)
    for seed in range(6):
        x, order = images(seed), orders[seed % 3]
        ys = fast(x), own(x)
        same(*[[y] for y in ys])
        dy = images(seed).sum(1, keepdims=True).repeat(16, 1)
        dy = np.ascontiguousarray(dy.transpose(order)).transpose(np.argsort(order))
        same([fast.backward(x, dy)], [own.backward(x, dy)])
        same(fast.network.gradients(), own.gradients())
    assert recorded(fast)


def test_passes_out_of_turn():
    fast, own = pair(residual)
    a, b, dy = images(1), images(2), images(3, 2, 4)[:, 0, 0, 0][:, None].repeat(7, 1)
    for _ in range(3):
        agree(fast, own, a)
    fast(a), own(a)
    fast(b), own(b)  # nobody went back through a
    same([fast.backward(b, dy)], [own.backward(b, dy)])
    same(fast.network.gradients(), own.gradients())
    before = [np.copy(array) for _, array in fast.network.named_buffers()]
    again = fast.backward(b, dy)  # its values are gone, and computed anew
    same([array for _, array in fast.network.named_buffers()], before)
    np.testing.assert_array_equal(again, own.backward(b, dy))
    agree(fast, own, a)


def test_two_forwards_may_each_have_their_backward():
    fast, own = pair(residual)
    a, b = images(1), images(2)
    for _ in range(3):
        agree(fast, own, a)
    kept, ys = [], []
    for net in (fast, own):
        for x in (a, b):
            ys.append(net(x))
            kept.append((net, x, net.take_saved()))
    same(ys[:2], ys[2:])
    dxs = []
    for net, x, state in kept:
        net.put_saved(state)
        dxs.append(net.backward(x, np.ones((2, 7), "f4")))
    same(dxs[:2], dxs[2:])
    same(fast.network.gradients(), own.gradients())
    same(*([b for _, b in net.named_buffers()] for net in (fast.network, own)))


def test_inside_other_networks():
    nn.seed(3)
    body = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU())
    fast = nn.Sequential(nn.Flatten(), nngraph.Recorded(body), nn.Dropout(0.0), nn.Linear(16, 7))
    own = nn.Sequential(nn.Flatten(), body.clone(), nn.Dropout(0.0), fast[3].clone())
    for seed in range(5):
        x = images(seed, 4, 2)
        same(step(fast, x), step(own, x))
        same(fast.gradients(), own.gradients())
    assert recorded(fast[1])


def test_several_inputs_and_outputs():
    a, b = nngraph.inputs("a"), nngraph.inputs("b")
    h = nn.ReLU()(nn.Conv2d(3, 16, 3)(a) + nn.Conv2d(3, 16, 3)(b))
    nn.seed(1)
    net = nngraph.Graph([a, b], [nn.BatchNorm2d(16)(h), nn.Flatten()(nn.Tanh()(h))])
    fast, own = nngraph.Recorded(net), net.clone()
    for seed in range(5):
        xs = images(seed, 2, 8), images(seed + 10, 2, 8)
        ys, expected = fast(*xs), own(*xs)
        same(ys, expected)
        dys = tuple(y * 0.5 for y in ys)
        same(fast.backward(xs, dys), own.backward(xs, dys))
        same(net.gradients(), own.gradients())
    assert recorded(fast)


def test_what_cannot_be_recorded_says_why_and_runs_as_ever():
    fast, own = pair(plain)
    for seed in range(4):
        agree(fast, own, images(seed)[:, :, ::-1])
    assert fast.refused == "an input is not one block of memory"
    with kernels.use("reference"):
        for seed in range(4):
            agree(fast, own, images(seed))


def test_what_numpy_computes_is_not_recorded(monkeypatch):
    monkeypatch.setattr(cpu, "tanh", kernels.reference.tanh)
    fast, own = pair(branched)
    for seed in range(4):
        agree(fast, own, images(seed))
    assert not recorded(fast)
    assert fast.refused.startswith("other inputs give")


def test_masks_are_drawn_anew_for_each_pass():
    fast, _ = pair(lambda: nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Scale(12), nn.Dropout(0.2)))
    x = np.ones((8, 3, 2, 2), "f4")
    passes = [step(fast, x) for _ in range(6)]
    assert recorded(fast)
    ys = [y for y, _ in passes]
    assert all((a != b).any() for i, a in enumerate(ys) for b in ys[:i])
    for y, dx in passes:
        assert ((y != 0) == (dx != 0).reshape(8, 12)).all()
    y = fast(x)
    for _ in range(2):  # the second computes the pass anew, with the same masks
        assert ((y != 0) == (fast.backward(x, y) != 0).reshape(8, 12)).all()
    assert (fast(x) != y).any()


def test_wrong_gradients_are_named():
    fast, _ = pair(plain)
    for seed in range(4):
        step(fast, images(seed))
    fast(images(0))
    with pytest.raises(ValueError, match=r"Recorded.*dy must have the shape of y, \(2, 7\)"):
        fast.backward(images(0), np.zeros((2, 6), "f4"))


def test_modules_that_may_compute_otherwise_are_named():
    net = nn.Sequential(nn.Linear(3, 4), nn.Softplus())
    with pytest.raises(ValueError, match=r"recorded.KINDS — got Softplus\(\)"):
        nngraph.Recorded(net)
    with pytest.raises(ValueError, match="momentum must be a number — got BatchNorm1d"):
        nngraph.Recorded(nn.Sequential(nn.BatchNorm1d(3, momentum=None)))


def test_clear_state_gives_the_memory_back():
    before = cpu.memory.stats()["live"]
    fast, _ = pair(plain)
    for _ in range(4):
        step(fast, images(0, 4))
    assert recorded(fast)
    held = cpu.memory.stats()["live"]
    fast.clear_state()
    assert before <= cpu.memory.stats()["live"] < held
    for _ in range(4):
        step(fast, images(0, 4))
    del fast
    assert cpu.memory.stats()["live"] <= held


def test_clones_and_files_start_afresh(tmp_path):
    fast, own = pair(residual)
    for seed in range(4):
        agree(fast, own, images(seed))
    fast.save(tmp_path / "net.h5")
    for twin in fast.clone(), nn.load(tmp_path / "net.h5"):
        same(twin.network.parameters(), fast.network.parameters())
        twin.zero_grad()
        other = own.clone()
        other.zero_grad()
        for seed in range(4):
            agree(twin, other, images(seed))
        assert recorded(twin)
