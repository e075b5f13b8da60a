"""nn.profile: what it counts, on which networks and devices it works, what it leaves alone."""

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.nn.profile import HEADS


def convolutions():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        nn.ConvTranspose2d(8, 4, 2, stride=2),
        nn.Flatten(),
        nn.Linear(4 * 16 * 16, 5),
    )


def images():
    return np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype("f4")


def test_rows_count_work_parameters_and_memory():
    found = nn.profile(convolutions(), images())
    rows = {row.name: row for row in found.rows}
    assert list(rows) == ["0", "0.0", "0.1", "0.2", "1", "2", "3"]
    assert rows["0.0"].multiply_adds == 2 * 8 * 8 * 8 * 3 * 3 * 3
    assert rows["1"].multiply_adds == 2 * 8 * 8 * 8 * 4 * 2 * 2
    assert rows["3"].multiply_adds == 2 * 5 * 4 * 16 * 16
    assert rows["3"].output == "(2, 5)" and rows["3"].memory == 2 * 5 * 4
    assert rows["0.0"].parameters == 8 * 3 * 3 * 3 + 8 and rows["0.2"].parameters == 0
    assert found.total.output == "(2, 5)" and found.total.forward > 0
    assert all(row.backward == 0 for row in found.rows)


def test_it_prints_a_line_a_module_and_a_total():
    net = convolutions()
    lines = repr(nn.profile(net, images())).splitlines()
    assert lines[0].split() == [h for h in HEADS if h != "backward"]
    assert [line.split()[0] for line in lines[1:]] == "0 0.0 0.1 0.2 1 2 3 total".split()
    assert lines[2].startswith("  0.0  Conv2d(3, 8, 3, padding=1)")
    assert f"{sum(p.size for p in net.parameters()):,}" in lines[-1]
    assert "backward" in repr(nn.profile(net, images(), backward=True)).splitlines()[0]


def test_on_the_cpu_convolutions_say_their_algorithm():
    x = images()
    with kernels.use("cpu") as k:
        rows = nn.profile(convolutions(), x).rows
        w = np.zeros((8, 3, 3, 3), "f4")
        assert rows[1].algorithm == k.conv.algorithm(x, w, (1, 1), (1, 1), (1, 1), 1)
        assert f"[{rows[1].algorithm}]" in repr(nn.profile(convolutions(), x))
    with kernels.use("reference"):
        assert nn.profile(convolutions(), x).rows[1].algorithm == ""


def test_the_network_stays_as_it_is():
    net = convolutions().train()
    net[1].eval()
    before = net.state_dict()
    nn.profile(net, images(), backward=True)
    nn.profile(net, images())
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert net.training and not net[1].training
    assert all("forward" not in vars(m) and "backward" not in vars(m) for m in net.modules())
    assert all("grad_weight" not in vars(m) for m in net.modules())


def test_it_works_on_every_device(device):
    where = device if device in ("host", "cuda") else "cpu"
    net, x = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).to(where), np.ones((2, 4), "f4")
    found = nn.profile(net, kernels.to(x, where), backward=True, repeats=1)
    assert [row.backward > 0 for row in found.rows] == [True, True]


def test_graphs_have_a_row_a_node_and_optimized_ones_too():
    x = nngraph.inputs("x")
    y = nn.ReLU()(nn.BatchNorm2d(4)(nn.Conv2d(3, 4, 3)(x)))
    graph = nngraph.Graph([x], [y]).eval()
    assert len(nn.profile(graph, images()).rows) == 3
    (row,) = nn.profile(nngraph.optimize(graph), images()).rows
    assert isinstance(row.module, nn.FusedConv2d)
    assert row.multiply_adds == 2 * 4 * 6 * 6 * 27


def test_recurrent_layers_and_tables():
    x = np.ones((5, 2, 3), "f4")
    found = nn.profile(nn.ConcatTable(nn.LSTM(3, 4), nn.Identity()), x, backward=True, repeats=1)
    assert found.rows[0].multiply_adds == 5 * 2 * (16 * 3 + 16 * 4)
    assert found.rows[0].memory == 4 * (5 * 2 * 4 + 2 * 2 * 4)


def test_a_module_that_runs_twice_counts_twice():
    layer = nn.Linear(3, 3)
    (row,) = nn.profile(nn.Sequential(layer, layer), np.ones((2, 3), "f4")).rows
    assert row.multiply_adds == 2 * (2 * 3 * 3)


@pytest.mark.parametrize("repeats", [0, -1, 1.5])
def test_repeats_must_be_a_positive_integer(repeats):
    with pytest.raises(ValueError, match="repeats"):
        nn.profile(nn.ReLU(), np.ones(2), repeats=repeats)


def test_joined_convolutions_are_one_row():
    x = nngraph.inputs("x")
    parts = [nn.Conv2d(24, 16, 1)(x), nn.Conv2d(24, 20, 3, padding=1)(x)]
    fast = nngraph.optimize(nngraph.Graph(x, nn.JoinTable(1)(*parts, name="both")).eval())
    (row,) = nn.profile(fast, np.ones((2, 24, 12, 9), "f4"), repeats=1).rows
    assert (row.name, row.output, row.container) == ("both", "(2, 36, 12, 9)", False)
    assert row.parameters == 24 * 16 + 16 + 24 * 20 * 9 + 20
    assert row.multiply_adds == 2 * 12 * 9 * (24 * 16 + 24 * 20 * 9)
    assert row.algorithm.count(" + ") == 1
