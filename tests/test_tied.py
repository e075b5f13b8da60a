"""Parameters that are views of one memory: one parameter, whatever is done with the network."""

import copy
import pickle

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.nn import optim, tied


def autoencoder(dtype="f8"):
    """The weight of the decoder is that of the encoder, transposed."""
    nn.seed(3)
    net = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 6)).astype(dtype)
    net[2].weight = net[0].weight.T
    return net


def inputs(dtype="f8"):
    return np.random.default_rng(0).uniform(0.1, 0.9, (5, 6)).astype(dtype)


def train(net, optimizer, steps, x):
    """Steps towards x itself; the losses."""
    losses, loss = [], nn.MSELoss()
    for _ in range(steps):
        net.zero_grad()
        y = net(x)
        losses.append(float(loss(y, x)))
        net.backward(x, loss.backward(y, x))
        optimizer.step()
    return losses


def apart(net):
    """A network of the same values in which nothing is shared."""
    twin = net.clone()
    for m in twin.modules():
        for name in m.params:
            setattr(m, name, np.array(getattr(m, name), order="C"))
            vars(m).pop("grad_" + name, None)
    return twin


OPTIMIZERS = [
    lambda net: optim.SGD(net, lr=0.3),
    lambda net: optim.SGD(net, lr=0.3, momentum=0.9, weight_decay=0.1),
    lambda net: optim.Adam(net, lr=0.02),
]


def gradients_apart(net):
    pass


def gradients_tied(net):
    net[2].grad_weight = net[0].grad_weight.T


def gradients_made(net):
    assert net[0].grad_weight is not None
    assert net[2].grad_weight is not None


@pytest.mark.parametrize("made", [gradients_apart, gradients_tied, gradients_made])
@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_step_is_one_step_with_the_sum_of_the_gradients(make, made):
    net, x = autoencoder(), inputs()
    made(net)
    expected = apart(net)
    summed = nn.Linear(6, 4)  # the parameter of the reference, and the sum of both gradients
    summed.weight, summed.bias = expected[0].weight, expected[0].bias
    rest = nn.Linear(4, 6)
    rest.weight, rest.bias = None, expected[2].bias
    steps = make(nn.Sequential(summed, rest))
    loss = nn.MSELoss()
    for _ in range(4):
        expected[2].weight[...] = expected[0].weight.T
        expected.zero_grad()
        y = expected(x)
        expected.backward(x, loss.backward(y, x))
        summed.grad_weight = expected[0].grad_weight + expected[2].grad_weight.T
        summed.grad_bias, rest.grad_bias = expected[0].grad_bias, expected[2].grad_bias
        steps.step()
    train(net, make(net), 4, x)
    np.testing.assert_allclose(net[0].bias, summed.bias, rtol=1e-12)
    np.testing.assert_allclose(net[0].weight, summed.weight, rtol=1e-12)
    np.testing.assert_allclose(net[2].bias, rest.bias, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_tied_autoencoder_learns(dtype):
    net, x = autoencoder(dtype), inputs(dtype)
    losses = train(net, optim.Adam(net, lr=0.05), 200, x)
    assert losses[-1] < 0.2 * losses[0]
    np.testing.assert_array_equal(net[2].weight, net[0].weight.T)


def test_gradients_agree_with_calculus():
    nn.gradcheck(autoencoder(), inputs())
    net = autoencoder()
    net[2].weight, net[2].grad_weight = net[0].weight.T, net[0].grad_weight.T
    nn.gradcheck(net, inputs())


def test_it_is_counted_named_and_given_once():
    net = autoencoder()
    assert [name for name, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.bias"]
    assert [g.shape for g in net.gradients()] == [(4, 6), (4,), (6,)]
    assert net.summary().splitlines()[-1] == "34 parameters"
    assert set(net.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def saved(net, tmp_path):
    net.save(tmp_path / "net.h5")
    return nn.load(tmp_path / "net.h5")


def flattened(net, tmp_path):
    net.flatten_parameters()
    return net


def shared(net, tmp_path):
    return nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 6)).share(net)


def frozen(net, tmp_path):
    net.gradients()
    return net.freeze().unfreeze()


CHANGES = {
    "astype": lambda net, _: net.astype("f4"),
    "astype of the same": lambda net, _: net.astype("f8"),
    "clone": lambda net, _: net.clone(),
    "clone that shares": lambda net, _: net.clone("weight"),
    "deepcopy": lambda net, _: copy.deepcopy(net),
    "device and back": lambda net, _: net.to("host").to("cpu"),
    "flatten": flattened,
    "flatten and clone": lambda net, path: flattened(net, path).clone(),
    "flatten and deepcopy": lambda net, path: copy.deepcopy(flattened(net, path)),
    "freeze": frozen,
    "pickle": lambda net, _: pickle.loads(pickle.dumps(net)),
    "save": saved,
    "share": shared,
    "train": lambda net, _: (train(net, optim.SGD(net, 0.1), 2, inputs()), net)[1],
}
LAYOUTS = {  # of the encoder's weight (4, 6) and the decoder's (6, 4)
    "transposed": lambda w: (w, w.T),
    "transposed first": lambda w: (w.T.copy().T, None),
    "one array": lambda w: (w, w),
    "one layout": lambda w: (w[:], w[:]),
    "reshaped": lambda w: (w, w.reshape(2, 12)),
    "reshaped, of another order": lambda w: (w.T, w.reshape(8, 3)),
    "backwards": lambda w: (w[::-1], w.T),
    "permuted": lambda w: (w.reshape(2, 2, 6), w.reshape(2, 2, 6).transpose(1, 2, 0)),
    "part of more": lambda w: (np.pad(w, 1)[1:-1, 1:-1], None),
    "permuted part of more": lambda w: (np.pad(w, 1)[1:-1, 1:-1].T, None),
}


class Weight(nn.Module):
    """A weight and nothing else."""

    params = ("weight",)

    def __init__(self, *shape):
        self.weight = np.zeros(shape)


def pair(layout):
    """Two modules whose weights are views of one memory."""
    first, second = LAYOUTS[layout](np.arange(24.0).reshape(4, 6))
    second = first.T if second is None else second
    net = nn.ParallelTable(Weight(*first.shape), Weight(*second.shape))
    net[0].weight, net[1].weight = first, second
    return net


def tied_still(net):
    """Writing to one element is seen in the other view: of the weights, and of the gradients."""
    a, b = net[0].weight, net[-1].weight
    assert len([name for name, _ in net.named_parameters() if "weight" in name]) == 1
    net.gradients()
    for x, y in ((a, b), (net[0].grad_weight, net[-1].grad_weight)):
        before, value = y.copy(), x.flat[3]
        x.flat[3] = 100
        assert y[y != before].tolist() == [100]
        x.flat[3] = value


@pytest.mark.parametrize("change", CHANGES)
def test_the_tie_of_a_network_survives(change, tmp_path):
    net = autoencoder()
    expected = net[0].weight.copy()
    net = CHANGES[change](net, tmp_path)
    tied_still(net)
    np.testing.assert_array_equal(net[2].weight, net[0].weight.T)
    if change != "train":
        np.testing.assert_allclose(net[0].weight, expected, rtol=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("change", [c for c in CHANGES if c not in ("share", "train")])
def test_the_tie_of_any_two_views_survives(change, layout, tmp_path):
    net = pair(layout)
    before = [net[i].weight.copy() for i in range(2)]
    tied_still(net)
    net = CHANGES[change](net, tmp_path)
    tied_still(net)
    for i in range(2):
        np.testing.assert_array_equal(net[i].weight, before[i])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_that_came_apart_are_summed_where_they_belong(layout):
    net = pair(layout)
    g, h = (np.random.default_rng(i).normal(size=net[i].weight.shape) for i in range(2))
    net[0].grad_weight, net[1].grad_weight = g.copy(), h.copy()
    before = [net[i].weight.copy() for i in range(2)]
    optim.SGD(net, lr=1.0).step()
    moved = before[0] - net[0].weight  # is g, and h where its elements lie in the memory
    net[0].weight[...], net[1].weight[...] = 0, h
    np.testing.assert_allclose(moved, g + net[0].weight, rtol=1e-12, atol=1e-12)


def test_summed_gradients_are_not_summed_again_by_another_network():
    net = autoencoder()
    one, other = net[0].grad_weight, net[2].grad_weight
    one[...], other[...] = 1, 2
    twin = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 6))
    for i in (0, 2):
        twin[i].weight, twin[i].grad_weight = net[i].weight, net[i].grad_weight
    for network in (net, twin, net):
        assert (network.gradients()[0] == 3).all()


@pytest.mark.parametrize("device", ["host", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_on_a_device_it_is_one_parameter_too(device):
    net = autoencoder("f4").to(device)
    assert len(net.parameters()) == 3
    for other in (net, net.clone()):
        k = kernels.of(other[0].weight)
        k.fill(other[0].weight, 7)
        assert (k.numpy(other[2].weight) == 7).all()
    assert (k.numpy(net.flatten_parameters()[0])[:24] == 7).all()
    assert len(net.parameters()) == 3


@pytest.mark.parametrize("which", [0, 2])
def test_who_is_frozen_keeps_the_weight_from_the_others_too(which):
    net, x = autoencoder(), inputs()
    before = net[0].weight.copy()
    bias = net[2 - which].bias.copy()
    net[which].freeze()
    train(net, optim.SGD(net, lr=0.5), 2, x)
    np.testing.assert_array_equal(net[0].weight, before)
    assert (net[2 - which].bias != bias).any()
    net.flatten_parameters()
    tied_views = net[2].weight.base is net[0].weight or net[2].weight.base is net[0].weight.base
    assert tied_views
    np.testing.assert_array_equal(net[2].weight, net[0].weight.T)


def test_a_loaded_state_goes_to_both_names():
    net, other = autoencoder(), autoencoder()
    other[0].weight += 1
    net.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(net[0].weight, other[0].weight)
    np.testing.assert_array_equal(net[2].weight, other[0].weight.T)


def test_a_recorded_network_takes_the_same_steps():
    x = inputs("f4")
    plain, fast = autoencoder("f4"), nngraph.Recorded(autoencoder("f4"))
    with kernels.use("cpu"):
        train(plain, optim.SGD(plain, lr=0.3, momentum=0.9), 6, x)
        train(fast, optim.SGD(fast, lr=0.3, momentum=0.9), 6, x)
    for got, want in zip(fast.parameters(), plain.parameters(), strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_state_of_an_optimizer_goes_on():
    net, x = autoencoder(), inputs()
    adam = optim.Adam(net)
    train(net, adam, 2, x)
    twin = net.clone()
    again = optim.Adam(twin)
    again.load_state_dict(adam.state_dict())
    train(net, adam, 2, x)
    train(twin, again, 2, x)
    np.testing.assert_array_equal(twin[0].weight, net[0].weight)


def test_gradients_tied_in_another_way_than_the_weights_are_refused():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight, net[1].grad_weight = net[0].weight.T, net[0].grad_weight
    must = "1.weight: grad_weight must be to grad_weight of 0.weight as weight is to weight"
    for use in (net.slots, net.gradients, optim.SGD(net, lr=1).step, net.flatten_parameters):
        with pytest.raises(ValueError, match=must):
            use()


def test_parameters_that_overlap_in_part_are_refused():
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    net[1].bias = net[0].weight[1]
    must = r"0.weight and 1.bias: two parameters must be the same memory or have none in common"
    before = net[0].weight.copy()
    net.gradients()[0][...] = 1
    for use in (optim.SGD(net, lr=1).step, optim.Adam(net).step, net.flatten_parameters):
        with pytest.raises(ValueError, match=must):
            use()
    np.testing.assert_array_equal(net[0].weight, before)


def test_neighbours_and_interleaved_views_are_apart():
    net = nn.ParallelTable(Weight(), Weight(), Weight(), Weight())
    flat, pieces = np.arange(24.0), np.arange(24.0).reshape(4, 6)
    net[0].weight, net[1].weight = flat[:12].reshape(3, 4), flat[12:]
    net[2].weight, net[3].weight = pieces[:, ::2], pieces[:, 1::2]
    for g in net.gradients():
        g[...] = 1
    optim.SGD(net, lr=1).step()
    np.testing.assert_array_equal(flat, np.arange(24) - 1)
    np.testing.assert_array_equal(pieces.ravel(), np.arange(24) - 1)
    net.flatten_parameters()
    optim.SGD(net, lr=1).step()
    assert len(net.parameters()) == 4


def test_memory_is_the_same_for_views_of_the_same_elements_only():
    x = np.zeros((4, 6), "f4")
    same = [x, x.T, x.reshape(3, 8), x[::-1], x[:, ::-1].T, x.ravel(), x[:, None]]
    assert len({tied.memory(a) for a in same}) == 1
    other = [x, x[:, ::2], x[:, 1::2], x[::2], x[:, :3], x[1:], x.view("i4"), x[:0], x.copy()]
    assert len({tied.memory(a) for a in other}) == len(other)
    assert tied.memory(x[:, ::2]) == tied.memory(x[:, ::2].T) == tied.memory(x[::-1, ::2])


def test_a_file_whose_ties_make_no_sense_is_refused(tmp_path):
    import h5py

    autoencoder().save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "a") as file:
        assert file["state/2.weight"].shape == (6, 4)
        file["state/2.weight"].attrs["view of"] = "0.bias"
    with pytest.raises(ValueError, match="2.weight must be a view of a parameter before it"):
        nn.load(tmp_path / "net.h5")


def test_a_file_without_notes_of_ties_is_read(tmp_path):
    import h5py

    net = autoencoder()
    net.save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "a") as file:
        for name in ("0.weight", "2.weight"):
            file["state"][name].attrs.clear()
    again = nn.load(tmp_path / "net.h5")
    assert len(again.parameters()) == 4
    np.testing.assert_array_equal(again[2].weight, net[0].weight.T)
