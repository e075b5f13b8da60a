"""What must hold of networks wired as graphs."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flambeau import nn, nngraph
from flambeau.nngraph import graph as graph_module

from test_modules import close, flat, gradient, move, put


def lstm_cell(n_in=3, n_h=4):
    """The cell of an LSTM, wired by hand."""
    x, h, c = nngraph.inputs("x h c")
    gates = nn.Linear(n_in + n_h, 4 * n_h)(nngraph.join(x, h), name="gates")
    i, f, o, g = gates.chunk(4)
    c2 = nn.Sigmoid()(f) * c + nn.Sigmoid()(i) * nn.Tanh()(g)
    h2 = nn.Sigmoid()(o) * nn.Tanh()(c2)
    return nngraph.Graph([x, h, c], [h2, c2])


def residual():
    """A sum of two paths, with names."""
    x = nngraph.inputs("x")
    a = nn.Linear(4, 4)(x, name="first")
    b = nn.ReLU()(a, name="bend")
    total = b + x
    return nngraph.Graph(x, nn.Linear(4, 2)(total, name="last"), aliases={"sum": total, "bent": b})


def arrays(*shapes):
    generator = np.random.default_rng(0)
    return tuple(generator.normal(size=shape) for shape in shapes)


def test_backward_of_an_lstm_cell_agrees_with_calculus(device):
    nn.gradcheck(put(lstm_cell(), device), *move(arrays((2, 3), (2, 4), (2, 4)), device))


def test_a_graph_in_evaluation_gives_the_same_gradients():
    net = lstm_cell().astype("f8")
    x = arrays((2, 3), (2, 4), (2, 4))
    dy = gradient(net(*x))
    expected = [a.copy() for a in flat(net.backward(x, dy)) + net.gradients()]
    net.zero_grad()
    net.eval()
    net(*x)
    assert net.saved is None
    close(flat(net.backward(x, dy)) + net.gradients(), expected, 1e-14)


def test_gradients_of_a_value_used_twice_are_summed():
    x = nngraph.inputs("x")
    net = nngraph.Graph(x, nn.Affine(2.0, 0.0)(x) + nn.Affine(3.0, 0.0)(x) + x)
    (a,) = arrays((2, 3))
    net(a)
    np.testing.assert_allclose(net.backward(a, np.ones_like(a)), np.full_like(a, 6))


def test_parts_that_nobody_uses_get_zero_gradient():
    x = nngraph.inputs("x")
    first, _, third = x.chunk(3)
    net = nngraph.Graph(x, first + third)
    (a,) = arrays((2, 6))
    net(a)
    dx = net.backward(a, np.ones((2, 2)))
    np.testing.assert_array_equal(dx, [[1, 1, 0, 0, 1, 1]] * 2)


def test_a_module_at_two_nodes_shares_parameters_and_keeps_separate_state(device):
    x = nngraph.inputs("x")
    drop, linear = nn.Dropout(0.5), nn.Linear(4, 4)
    net = nngraph.Graph(x, drop(linear(drop(linear(x)))))
    assert len(net.parameters()) == 2
    nn.gradcheck(put(net, device), move(arrays((8, 4))[0], device))


def test_inner_values_are_had_by_name():
    net = residual()
    (x,) = arrays((3, 4))
    y, inner = net(x, taps=["first", "bent", "sum"])
    np.testing.assert_allclose(inner["bent"], np.maximum(inner["first"], 0))
    part = net.until("bend")
    np.testing.assert_allclose(part(x), inner["bent"])
    assert part["first"] is net["first"]
    with pytest.raises(KeyError, match="no value 'pool5'.*first, bend"):
        net.until("pool5")
    net.eval()
    np.testing.assert_allclose(net(x, taps=["first"])[1]["first"], inner["first"])
    np.testing.assert_allclose(net(x), y)


def test_names_go_inside_children():
    x = nngraph.inputs("x")
    outer = nngraph.Graph(x, nn.ReLU()(residual()(x, name="block"), name="end"))
    (a,) = arrays((3, 4))
    np.testing.assert_allclose(outer.until("block.bend")(a), outer["block"].until("bend")(a))
    assert "block.first.weight" in outer.state_dict()
    net = nn.Sequential(("block", residual()), ("end", nn.ReLU()))
    np.testing.assert_allclose(net.until("block.bend")(a), net["block"].until("bend")(a))


def test_errors_name_the_node_and_the_users_line():
    net = residual()
    with pytest.raises(ValueError, match=r"Linear\(4, 4\): x must be .* got x \(3, 5\)") as caught:
        net(arrays((3, 5))[0])
    assert any(
        "in first of Graph" in note and "test_graph.py:" in note for note in caught.value.__notes__
    )


def test_the_users_line_is_found_through_a_link_to_the_package(tmp_path):
    (tmp_path / "flambeau").symlink_to(Path(nn.__file__).parents[1])
    code = "from flambeau import nngraph\nprint(nngraph.inputs('x').where)"
    (tmp_path / "user.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(tmp_path / "user.py")]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip().endswith("user.py:2")


def test_wrong_wiring_is_refused_at_construction():
    x, unused = nngraph.inputs("x unused")
    y = nn.ReLU()(x)
    with pytest.raises(
        ValueError, match=r"input 'unused' \(.*test_graph.py:\d+\) reaches no output"
    ):
        nngraph.Graph([x, unused], y)
    with pytest.raises(ValueError, match="depend on the input 'unused'"):
        nngraph.Graph(x, y + unused)
    with pytest.raises(
        TypeError, match=r"output must be a Node — got ReLU\(\); did you mean to call"
    ):
        nngraph.Graph(x, nn.ReLU())
    with pytest.raises(ValueError, match="the name 'a' .* is used at"):
        nngraph.Graph(x, nn.ReLU()(nn.ReLU()(x, name="a"), name="a"))
    with pytest.raises(TypeError, match="every input must be a node"):
        nn.Add()(x, np.ones(3))
    with pytest.raises(ValueError, match="needs 2 inputs — got 1"):
        nngraph.Graph([x, unused], x + unused)(np.ones(3))


def test_graphs_come_back_from_a_file(tmp_path):
    net = lstm_cell()
    x = tuple(a.astype("f4") for a in arrays((2, 3), (2, 4), (2, 4)))
    net.save(tmp_path / "cell.h5")
    again = nn.load(tmp_path / "cell.h5")
    close(flat(again(*x)), flat(net(*x)), 0)
    assert again.dag.edges == net.dag.edges


def test_a_graph_is_a_networkx_graph():
    import networkx

    dag = residual().dag
    assert networkx.is_directed_acyclic_graph(dag)
    assert networkx.shortest_path(dag, "x", "last")[-1] == "last"
    assert isinstance(dag.nodes["first"]["module"], nn.Linear)


def test_frozen_parts_are_not_gone_through():
    net = residual()
    net["first"].freeze()
    net.want_dx = False
    (x,) = arrays((3, 4))
    y = net(x)
    assert net.backward(x, np.ones_like(y)) is None
    assert net["first"].grad_weight is None
    assert net["last"].grad_weight.any()


def test_clones_of_graphs_are_apart():
    net = residual()
    twin = net.clone()
    twin["first"].weight[:] = 0
    assert net["first"].weight.any()
    assert twin.steps == net.steps
    assert repr(copy.deepcopy(net)) == repr(pickle.loads(pickle.dumps(net))) == repr(net)


def test_a_module_shared_by_a_graph_and_a_container_in_it_keeps_what_each_use_saved():
    norm = nn.BatchNorm1d(3)
    x = nngraph.inputs("x")
    net = nngraph.Graph(x, nn.Sequential(nn.Tanh(), norm)(norm(x)) + x).astype("f8")
    nn.gradcheck(net, np.random.default_rng(0).normal(size=(5, 3)))


def tower(block):
    """Networks whose modules may be inner ones, or give the caller what they gave."""
    return nn.Sequential(nn.Linear(4, 4), block(), nn.Linear(4, 4), block())


def shortcut():
    x = nngraph.inputs("x")
    h = nn.ReLU()(nn.Linear(4, 4)(x, name="first"))
    short = nn.Linear(4, 4)(x, name="short")
    return nngraph.Graph(x, nn.ReLU()(nn.Linear(4, 4)(h, name="second") + short))


def chain():
    x = nngraph.inputs("x")
    h = nn.ReLU()(nn.Clamp(-2, 2)(nn.Linear(4, 4)(x)))
    return nngraph.Graph(x, nn.Tanh()(nn.ReLU()(h) + nn.Linear(4, 4)(h)))


def sum_of_a_table():
    x = nngraph.inputs("x")
    table = nn.ConcatTable(nn.Linear(4, 4), nn.Linear(4, 4))(x)
    return nngraph.Graph(x, nn.ReLU()(nn.Add()(table)))


def part_of_a_table():
    x = nngraph.inputs("x")
    table = nn.ConcatTable(nn.Linear(4, 4), nn.Linear(4, 4))(x)
    return nngraph.Graph(x, nn.Tanh()(nn.ReLU()(table[0])))


BLOCKS = shortcut, chain, sum_of_a_table, part_of_a_table


@pytest.mark.parametrize("block", BLOCKS)
def test_gradients_are_right_whichever_values_are_kept(block):
    x = np.random.default_rng(0).normal(size=(3, 4))
    assert nn.gradcheck(block(), x) < 1e-6
    assert nn.gradcheck(tower(block), x) < 1e-6


@pytest.mark.parametrize("block", BLOCKS)
def test_the_caller_may_change_the_output_before_backward(block):
    net = tower(block)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    net(x)
    dx = net.backward(x, np.ones((3, 4), "f4"))
    net(x)[...] = -1
    assert (net.backward(x, np.ones((3, 4), "f4")) == dx).all()


def test_what_comes_into_sums_and_inner_relus_is_not_kept():
    net, x = tower(shortcut), np.ones((3, 4), "f4")
    net(x)
    kept = {
        i: {step.name for step, v in zip(net[i].steps, net[i].saved[1], strict=True) if v is None}
        for i in (1, 3)
    }
    assert kept == {1: {"first", "second", "short", "add_1"}, 3: {"first", "second", "short"}}


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_convolutions_add_their_gradient_to_one_that_came_before(uses, monkeypatch):
    """The same bits as a sum of all gradients at the end."""
    nn.seed(1)
    x = nngraph.inputs("x")
    h = nn.Tanh()(x)
    ys = [nn.Conv2d(4, 8, 3, padding=1)(h) for _ in range(uses)] + [nn.Conv2d(4, 8, 1)(x)]
    net = nngraph.Graph(x, [*ys, nn.Sigmoid()(h)])
    image = np.random.default_rng(0).normal(size=(2, 4, 6, 6)).astype("f4")
    found = []
    for beside in graph_module.beside, lambda *_: None:
        monkeypatch.setattr(graph_module, "beside", beside)
        net.zero_grad()
        dys = tuple(2 * y for y in net(image))
        found.append([net.backward(image, dys), *map(np.copy, net.gradients())])
        net.want_dx = not net.want_dx
        net(image)
        found[-1].append(net.backward(image, dys))
        net.want_dx = not net.want_dx
    for fused, plain in zip(*found, strict=True):
        np.testing.assert_array_equal(fused, plain)
    assert found[0][-1] is None
