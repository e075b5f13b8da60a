"""Layers that compute the ReLU beside them: the kernels, and containers that let them."""

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.kernels import reference
from flambeau.nngraph.joining import joints

from test_joined_norms import apart, passes


def draw(*shape, dtype="f4", seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def both(k, x, dy, parameters, want_dx=True):
    """Forward and backward by a package of kernels; everything that comes out."""
    w, b, dw, db = [a if a is None else k.array(x, kernels.to(a, "cpu")) for a in parameters]
    y = k.linear_relu(x, w, b)
    dx = k.linear_relu_backward(x, y, dy, w, dw, db, want_dx)
    return [a if a is None else kernels.to(a, "cpu") for a in (y, dx, dw, db)]


def close(found, expected, tolerance):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rows", [0, 1, 5, 33, 400])
@pytest.mark.parametrize("sizes", [(3, 1), (37, 19), (64, 64), (100, 130)])
def test_linear_with_its_relu_agrees_with_the_reference(sizes, rows, dtype):
    (i, o), tolerance = sizes, 1e-4 if dtype == "f4" else 1e-10
    x, dy = draw(rows, i, dtype=dtype), draw(rows, o, dtype=dtype, seed=1)
    w, b = draw(o, i, dtype=dtype, seed=2), draw(o, dtype=dtype, seed=3)
    dw, db = draw(o, i, dtype=dtype, seed=4), draw(o, dtype=dtype, seed=5)
    for parameters in (w, b, dw, db), (w, None, dw, None), (w, b, None, None):
        for want_dx in (True, False):
            arguments = x, dy, parameters, want_dx
            close(both(kernels.of(x), *arguments), both(reference, *arguments), tolerance)


def test_linear_with_its_relu_on_the_host_device():
    x, dy = draw(2, 3, 7), draw(2, 3, 5, seed=1)
    parameters = draw(5, 7, seed=2), draw(5, seed=3), draw(5, 7, seed=4), draw(5, seed=5)
    moved = [kernels.to(a, "host") for a in (x, dy)]
    found = both(kernels.of(moved[0]), *moved, parameters)
    close(found, both(reference, x, dy, parameters), 1e-5)


def layers(seed=0):
    """Every layer that takes a ReLU, and two that none can take, one behind a pooling."""
    nn.seed(seed)
    return [
        ("conv", nn.Conv2d(3, 6, 3)),
        ("relu", nn.ReLU()),
        ("tail", nn.Conv2d(6, 4, 3, padding=1)),
        ("relu2", nn.ReLU()),
        ("pool", nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)),
        ("late", nn.ReLU()),
        ("tanh", nn.Tanh()),
        ("relu3", nn.ReLU()),
        ("flat", nn.Flatten()),
        ("hidden", nn.Linear(4 * 5 * 6, 9)),
        ("relu4", nn.ReLU()),
        ("end", nn.Linear(9, 4)),
    ]


def sequential():
    return nn.Sequential(*layers())


def graph():
    x = node = nngraph.inputs("x")
    for name, layer in layers():
        node = layer(node, name=name)
    return nngraph.Graph(x, node)


TAKEN = {"conv": "relu", "pool": "relu2", "hidden": "relu4"}


def test_which_layers_take_a_relu():
    assert sequential()._relus(()) == TAKEN
    net = graph()
    found = joints(net, (), {slot for slot, _ in net.outs})
    assert {joint.layer for joint in found.values()} == set(TAKEN)
    inside = {joint.layer: net.steps[joint.inside[0]].name for joint in found.values()}
    assert inside == {"conv": "conv", "pool": "relu2", "hidden": "hidden"}


@pytest.mark.parametrize("make", [sequential, graph])
@pytest.mark.parametrize("times", [1, 2])
def test_networks_compute_the_same_joined_and_apart(device, make, times):
    where = "cpu" if device in ("reference", "cpu") else device
    plain, joined = make(), make()
    for layer in plain.modules():
        if not layer.children():
            layer.forward = layer.forward  # methods of their own: not joined
    x, dy = draw(2, 3, 11, 12), draw(2, 4, seed=1)
    arguments = *(kernels.to(a, where) for a in (x, dy)), times
    found, expected = (passes(net.to(where), *arguments) for net in (joined, plain))
    for a, b in zip(found, expected, strict=True):
        a, b = kernels.to(a, "cpu"), kernels.to(b, "cpu")
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    joined.want_dx = False
    assert passes(joined, *arguments)[1] is None


@pytest.mark.parametrize("make", [sequential, graph])
def test_gradients_are_those_of_the_function(make):
    net = make().astype("f8")
    nn.gradcheck(net, draw(2, 3, 11, 12, dtype="f8"))


@pytest.mark.parametrize("make", [sequential, graph])
def test_backward_once_and_evaluation_give_the_same(make):
    x, dy = draw(2, 3, 11, 12), draw(2, 4, seed=1)
    once, evaluated = make(), make().eval()
    once.backward_once = True
    expected = passes(make(), x, dy)
    for net in once, evaluated:
        for a, b in zip(passes(net, x, dy), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_goes_into_a_pooling_is_not_kept():
    net = sequential()
    net(draw(2, 3, 11, 12))
    kept = net.saved[1]
    assert kept["relu2"] is None and kept["pool"][0] is None
    wired = graph()
    wired(draw(2, 3, 11, 12))
    values = dict(zip((step.name for step in wired.steps), wired.saved[1], strict=True))
    assert values["tail"] is None and values["relu2"] is None and values["pool"] is not None


def test_a_frozen_layer_a_shared_one_and_taps_apart_take_no_relu():
    net = sequential()
    net["conv"].freeze()
    net["hidden"].eval()
    assert net._relus(()) == {"pool": "relu2"}
    assert sequential()._relus({"relu"}) == {"pool": "relu2", "hidden": "relu4"}
    assert sequential()._relus({"pool"}) == {"conv": "relu", "tail": "relu2", "hidden": "relu4"}
    apart_taps = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, dilation=2), nn.Identity())
    assert apart_taps._relus(()) == {}


def test_an_output_that_the_caller_may_change_is_not_needed():
    for tail in (nn.Conv2d(3, 4, 1), nn.ReLU()), (nn.ReLU(), nn.MaxPool2d(2)):
        net = nn.Sequential(*tail)
        assert net._relus(()) == {}
        x, dy = draw(1, 3, 4, 4), np.ones_like(net(draw(1, 3, 4, 4)))
        expected = net.backward(x, dy)
        y = net(x)
        y[...] = 0
        np.testing.assert_array_equal(net.backward(x, dy), expected)


def test_nan_is_the_greatest_joined_and_apart():
    x = draw(1, 2, 4, 4)
    x[0, 0, 0, 1] = np.nan
    x[0, 1] = -abs(x[0, 1])
    net = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Identity())
    plain = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.Identity())
    plain[1].forward = plain[1].forward
    np.testing.assert_array_equal(net(x), plain(x))


def test_a_norm_before_a_pooling_leaves_the_relu_to_it():
    nn.seed(0)
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Identity())
    assert net._relus(()) == {"2": "1"}
    x, dy = draw(2, 3, 6, 6), draw(2, 3, 3, 3, seed=1)
    found = passes(net, x, dy)
    net[2].forward = net[2].forward
    net[0].running_mean[...], net[0].running_var[...], net[0].num_batches_tracked = 0, 1, 0
    assert apart(net)._relus(()) == {}
    for a, b in zip(found, passes(net, x, dy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
