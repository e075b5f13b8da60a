"""Containers that compute normalisations, sums, ReLUs and poolings as one step."""

import numpy as np
import pytest

from flambeau import nn, nngraph
from flambeau.nngraph.joining import joints

from test_norm_relu import images


def block(shortcut=True, layers=16):
    """A residual block, as a graph, its ReLUs joined in training."""
    x = nngraph.inputs("x")
    h = nn.ReLU()(nn.BatchNorm2d(layers)(nn.Conv2d(layers, layers, 3, padding=1)(x)), name="inner")
    h = nn.BatchNorm2d(layers)(nn.Conv2d(layers, layers, 1)(h), name="norm")
    side = nn.BatchNorm2d(layers)(nn.Conv2d(layers, layers, 1)(x)) if shortcut else x
    return nngraph.Graph(x, nn.ReLU()(h + side, name="end"))


def apart(net):
    """The network, whose normalisations now compute no ReLU: they have methods of their own."""
    for norm in net.find(nn.BatchNorm2d):
        norm.forward = norm.forward
    return net


def passes(net, x, dy, times=1):
    y = net(x)
    net.zero_grad()
    dxs = [net.backward(x, dy) for _ in range(times)]
    state = [*net.parameters(), *(b for _, b in net.named_buffers() if hasattr(b, "shape"))]
    return [y, *dxs, *net.gradients(), *state]


@pytest.mark.parametrize("shortcut", [True, False])
@pytest.mark.parametrize("times", [1, 2])
def test_networks_compute_the_same_joined_and_apart(shortcut, times):
    def network():
        nn.seed(4)
        stem = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)
        blocks = nn.Sequential(block(shortcut), block(not shortcut))
        end = nn.Conv2d(16, 8, 1), nn.BatchNorm2d(8), nn.ReLU()
        return nn.Sequential(*stem, blocks, *end)

    x, dy = images((2, 3, 14, 14), 0, "f8"), images((2, 8, 6, 6), 1, "f8")
    joined, plain = network().astype("f8"), apart(network().astype("f8"))
    for found, expected in zip(
        passes(joined, x, dy, times), passes(plain, x, dy, times), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-10)
    joined.want_dx = plain.want_dx = False
    assert passes(joined, x, dy)[1] is None


def test_gradients_of_a_joined_block_are_those_of_its_function():
    net = block().astype("f8")
    net.enclosed = True  # as inside of a network: the last ReLU is joined too
    assert len(joints(net, (), ())) == 2
    assert sum(joint.second is not None for joint in joints(net, (), ()).values()) == 1
    nn.gradcheck(net, images((2, 16, 3, 4), 2, "f8"))


def projected(layers=16):
    """A residual block whose shortcut is a Sequential that ends with a normalisation."""
    x = nngraph.inputs("x")
    h = nn.BatchNorm2d(layers)(nn.Conv2d(layers, layers, 3, padding=1)(x), name="norm")
    short = nn.Sequential(nn.Conv2d(layers, layers, 1), nn.BatchNorm2d(layers))(x, name="short")
    return nngraph.Graph(x, nn.ReLU()(h + short, name="end"))


def seconds(graph):
    """The steps whose normalisations are computed with another one."""
    return [j.second for j in joints(graph, (), ()).values() if j.second]


def test_a_shortcut_that_ends_with_a_normalisation_is_joined_but_for_that():
    nn.seed(3)
    joined = nn.Sequential(projected(), projected(), nn.Identity()).astype("f8")
    plain = apart(joined.clone())
    assert seconds(joined[0]) == ["short"] and seconds(plain[0]) == []
    x, dy = images((2, 16, 5, 4), 0, "f8"), images((2, 16, 5, 4), 1, "f8")
    for want_dx in True, False:
        for frozen in (), ("0.short",), ("0.short.0", "0.norm"), ("0.short.1",):
            for net in joined, plain:
                net.want_dx = want_dx
                net.unfreeze()
                for name in frozen:
                    dict(net.named_modules())[name].freeze()
            found, expected = passes(joined, x, dy), passes(plain, x, dy)
            for a, b in zip(found, expected, strict=True):
                assert (a is None) == (b is None)
                if a is not None:
                    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)
    joined.unfreeze()
    one, same = joined[0], plain[0].unfreeze()
    one.enclosed = one.want_dx = True
    _, sums = same(x, taps=["add_1"])
    assert abs(sums["add_1"]).min() > 1e-4  # far from the ReLU's edge
    nn.gradcheck(one, x)


def test_shortcuts_that_are_not_joined():
    norm = nn.BatchNorm2d(16)
    twice = nn.Sequential(norm, nn.ReLU(), norm)
    alone = nn.Sequential(nn.BatchNorm2d(16))
    frozen = nn.Sequential(nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16).eval())
    for short in twice, alone, frozen, nn.Conv2d(16, 16, 1):
        x = nngraph.inputs("x")
        h = nn.BatchNorm2d(16)(nn.Conv2d(16, 16, 1)(x))
        net = nngraph.Graph(x, nn.ReLU()(h + short(x, name="short")))
        assert seconds(net) == []
    net = projected()
    net.enclosed = True
    y, values = net(images((2, 16, 5, 4), 0), taps=["short"])  # which somebody sees
    assert np.allclose(values["short"].mean((0, 2, 3)), 0, atol=1e-5)


def counted(graph):
    """The names of the ReLUs that are computed with a normalisation."""
    outs = {slot for slot, _ in graph.outs}
    return [graph.steps[slot].name for slot in joints(graph, (), outs)]


def test_a_value_that_others_see_is_computed_by_itself():
    net = block()
    assert counted(net) == ["inner"]  # the end is the caller's, who may change it
    x = images((2, 16, 5, 5), 0)
    y, found = net(x, taps=["norm", "inner"])
    nn.seed(1)
    twin = apart(net.clone())
    expected, values = twin(x, taps=["norm", "inner"])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for name in values:
        np.testing.assert_allclose(found[name], values[name], rtol=1e-5, atol=1e-5)


def test_two_users_a_frozen_layer_and_other_classes_are_not_joined():
    class Norm(nn.BatchNorm2d):
        pass

    for norm, two in (nn.BatchNorm2d(4), True), (nn.BatchNorm2d(4).freeze(), False), (Norm(4), 0):
        x = nngraph.inputs("x")
        h = norm(nn.Conv2d(3, 4, 1)(x))
        net = nngraph.Graph(x, nn.Conv2d(4, 2, 1)(nn.ReLU()(h) + (h if two else x)))
        assert counted(net) == []
    x = nngraph.inputs("x")
    h = nn.BatchNorm2d(4)(x)
    net = nngraph.Graph(x, [nn.Tanh()(nn.ReLU()(h)), h])
    assert counted(net) == []


def test_a_layer_that_occurs_twice_is_not_joined():
    norm, x = nn.BatchNorm2d(4), images((2, 4, 3, 3), 0)
    net = nn.Sequential(norm, nn.ReLU(), norm, nn.ReLU(), nn.Identity())
    assert net._relus({"0", "2"}) == {} and net._relus(()) == {"0": "1", "2": "3"}
    nn.gradcheck(net.astype("f8"), x.astype("f8"))


def test_which_normalisations_are_pooled():
    def found(*modules, enclosed=False):
        net = nn.Sequential(*modules)
        net.enclosed = enclosed
        return net._pools(net._relus(()), ())

    norm, relu, pool, end = nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Identity()
    assert found(norm, relu, pool, end) == {"0": "2"}
    assert found(norm, relu, pool, enclosed=True) == {"0": "2"}
    assert found(norm, relu, pool) == {}  # the last is the caller's
    assert found(relu, pool, end) == found(norm, relu, end) == found(norm, pool, end) == {}
    assert found(nn.BatchNorm2d(4).eval(), relu, pool, end) == {}
    assert found(norm, relu, nn.MaxPool2d(2, dilation=2), end) == {}
    net = nn.Sequential(norm, relu, pool, end)
    assert net._pools(net._relus(()), {"0"}) == {}


def test_gradients_of_a_pooled_normalisation_are_those_of_its_function():
    net = nn.Sequential(nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), nn.Identity())
    nn.gradcheck(net.astype("f8"), images((2, 16, 7, 6), 2, "f8", "last"))
    net[0].freeze()
    nn.gradcheck(net, images((2, 16, 7, 6), 3, "f8", "last"))


def test_errors_name_the_layer():
    net = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(5), nn.Identity())
    with pytest.raises(ValueError, match=r"MaxPool2d\(5\): .* window"):
        net(np.ones((2, 4, 3, 3), "f4"))
    assert net[0].num_batches_tracked == 0  # nothing was learned of it
    x = images((2, 4, 5, 5), 0)
    assert net(x).shape == (2, 4, 1, 1)
    with pytest.raises(ValueError, match=r"MaxPool2d\(5\): dy must have the shape of y"):
        net.backward(x, x)
    net = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Identity())
    with pytest.raises(ValueError, match=r"BatchNorm2d\(4\): x must be") as error:
        net(np.ones((2, 3, 4, 4), "f4"))
    assert "in layer 0 of Sequential" in error.value.__notes__
    x = nngraph.inputs("x")
    graph = nngraph.Graph(x, nn.Tanh()(nn.ReLU()(nn.BatchNorm2d(4)(x) + nn.Conv2d(4, 4, 3)(x))))
    with pytest.raises(ValueError, match="what is added must have the shape of y"):
        graph(np.ones((2, 4, 5, 5), "f4"))
    x = nngraph.inputs("x")
    short = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))(x)
    graph = nngraph.Graph(x, nn.Tanh()(nn.ReLU()(nn.BatchNorm2d(4)(x) + short)))
    assert len(seconds(graph)) == 1
    with pytest.raises(ValueError, match="what is added must have the shape of y"):
        graph(np.ones((2, 4, 5, 5), "f4"))
    assert {m.num_batches_tracked for m in graph.find(nn.BatchNorm2d)} == {0}


def test_after_a_joined_pass_a_normalisation_has_its_own_backward():
    norm, x, dy = nn.BatchNorm2d(16), images((2, 16, 6, 6), 0), images((2, 16, 6, 6), 1)
    norm(x)
    expected = norm.backward(x, dy)
    other = images((2, 16, 6, 6), 2)
    for forward in (
        lambda: norm.forward_relu(x),
        lambda: norm.forward_sum_relu(x, other),
        lambda: norm.forward_pair_relu(x, nn.BatchNorm2d(16), other),
        lambda: norm.forward_pool_relu(x, nn.MaxPool2d(2)),
    ):
        forward()
        np.testing.assert_array_equal(norm.backward(x, dy), expected)
