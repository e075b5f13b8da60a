"""Recurrent layers against PyTorch, against cells wired by hand, and cells run over time."""

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph

from test_modules import close, flat, gradient, move, put

GENERATOR = np.random.default_rng(2)

NETS = [
    "LSTM(5, 4)",
    "LSTM(3, 7, num_layers=3, bidirectional=True)",
    "LSTM(6, 33, 2, batch_first=True)",
    "LSTM(1, 1, 2, False)",
    "GRU(5, 4)",
    "GRU(3, 7, num_layers=3, bidirectional=True)",
    "GRU(6, 33, 2, batch_first=True)",
    "GRU(1, 1, 2, bias=False)",
    "RNN(5, 4)",
    "RNN(3, 7, num_layers=3, nonlinearity='relu', bidirectional=True)",
    "RNN(6, 33, 2, 'tanh', batch_first=True)",
    "RNN(1, 1, 2, 'relu', False)",
]


def made(text, dtype="f8"):
    """The network, a sequence of 7 steps for a batch of 3, and initial states, in float64."""
    nn.seed(4)
    net = eval(text, vars(nn)).astype(dtype)
    x = GENERATOR.normal(size=(7, 3, net.input_size)).astype(dtype)
    shape = net.num_layers * net.directions, 3, net.hidden_size
    state = tuple(GENERATOR.normal(size=shape).astype(dtype) for _ in range(net.states))
    x = np.ascontiguousarray(x.swapaxes(0, 1)) if net.batch_first else x
    return net, x, state if len(state) > 1 else state[0]


def torchs(text, net):
    """PyTorch's network with the same parameters."""
    import torch

    theirs = eval(text, vars(torch.nn)).double()
    theirs.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in net.state_dict().items()})
    return theirs


def tensors(x):
    """Arrays in nested tuples as leaves of PyTorch."""
    import torch

    if isinstance(x, tuple):
        return tuple(tensors(v) for v in x)
    return torch.from_numpy(x.copy()).requires_grad_()


@pytest.mark.torch
@pytest.mark.parametrize("given", [True, False], ids=["states", "no-states"])
@pytest.mark.parametrize("text", NETS)
def test_outputs_and_all_gradients_are_those_of_pytorch(text, given, device):
    import torch

    net, x, state = made(text)
    theirs = torchs(text, net)
    inputs = (x, state) if given else x
    leaves = tensors(inputs)
    expected = theirs(*leaves) if given else theirs(leaves)
    put(net, device)
    inputs = move(inputs, device)
    y = net(*inputs) if given else net(inputs)
    close(flat(y), [t.detach().numpy() for t in flat_tensors(expected)], 1e-12)
    dy = gradient(y)
    dx = net.backward(inputs, dy)
    torch.autograd.backward(
        flat_tensors(expected), [torch.from_numpy(np.ascontiguousarray(a)) for a in flat(dy)]
    )
    close(flat(dx), [t.grad.numpy() for t in flat_tensors(leaves)], 1e-11)
    grads = dict(theirs.named_parameters())
    names = [name for name, _ in net.named_parameters()]
    assert names == list(grads)
    close(flat(tuple(net.gradients())), [grads[name].grad.numpy() for name in names], 1e-11)


def flat_tensors(y):
    """The tensors in nested tuples."""
    return [t for v in y for t in flat_tensors(v)] if isinstance(y, tuple) else [y]


@pytest.mark.torch
@pytest.mark.parametrize("sizes", [(50, 128, 5), (6, 96, 9), (1, 40, 3), (15, 130, 4)])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_larger_sizes_agree_with_pytorch_in_single_precision(kind, sizes):
    import torch

    batch, hidden, steps = sizes
    net = getattr(nn, kind)(17, hidden)
    theirs = getattr(torch.nn, kind)(17, hidden)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in net.state_dict().items()})
    x = GENERATOR.normal(size=(steps, batch, 17)).astype("f4")
    t = tensors(x)
    expected, _ = theirs(t)
    dy = GENERATOR.normal(size=expected.shape).astype("f4")
    expected.backward(torch.from_numpy(dy))
    with kernels.use("cpu"):
        y, _ = net(x)
        dx = net.backward(x, (dy, None))
    close([y, dx], [expected.detach().numpy(), t.grad.numpy()], 1e-5)
    close(net.gradients(), [p.grad.numpy() for p in theirs.parameters()], 1e-5)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """A number of threads for the C kernels."""
    before = kernels.get_num_threads()
    kernels.set_num_threads(request.param)
    yield request.param
    kernels.set_num_threads(before)


@pytest.mark.parametrize("batch", [1, 7, 29])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_threads_share_rows_or_units_with_the_same_result(kind, batch, threads):
    nn.seed(5)
    net = getattr(nn, kind)(9, 451, bidirectional=True).astype("f8")
    x = GENERATOR.normal(size=(3, batch, 9))
    got = []
    for name in ("reference", "cpu"):
        with kernels.use(name):
            y = net(x)
            net.zero_grad()
            dx = net.backward(x, gradient(y))
            got.append([a.copy() for a in flat((y, dx, tuple(net.gradients())))])
    close(got[1], got[0], 1e-12)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_gradient_that_is_none_stands_for_zeros(kind, device):
    net, x, state = made(f"{kind}(3, 4, 2)")
    put(net, device)
    x, state = move(x, device), move(state, device)
    y, last = net(x, state)
    dy = gradient(y)
    zeros = move(tuple(np.zeros(s.shape) for s in flat(last)), device)
    expected = flat(net.backward((x, state), (dy, zeros)))
    close(flat(net.backward((x, state), (dy, None))), expected, 0)
    if kind == "LSTM":
        close(flat(net.backward((x, state), (dy, (None, zeros[1])))), expected, 0)


def test_states_are_given_nested_or_flat():
    net, x, (h, c) = made("LSTM(3, 4)")
    nested, flat_form = net(x, (h, c)), net(x, h, c)
    close(flat(nested), flat(flat_form), 0)
    dy = gradient(nested)
    dx, (dh, dc) = net.backward((x, (h, c)), dy)
    close(net.backward((x, h, c), dy), [dx, dh, dc], 0)


def wired_lstm(net):
    """The cell of a one-layer LSTM as a graph, with the LSTM's own parameters."""
    x, h, c = nngraph.inputs("x h c")
    from_x, from_h = nn.Linear(net.input_size, 28), nn.Linear(7, 28)
    i, f, g, o = (from_x(x, name="ih") + from_h(h, name="hh")).chunk(4)
    c2 = nn.Sigmoid()(f) * c + nn.Sigmoid()(i) * nn.Tanh()(g)
    h2 = nn.Sigmoid()(o) * nn.Tanh()(c2)
    return take_parameters(nngraph.Graph([x, h, c], [h2, c2]), net)


def wired_gru(net):
    """The cell of a one-layer GRU as a graph, which gives y apart from the state."""
    x, h = nngraph.inputs("x h")
    r, z, n = nn.Linear(net.input_size, 21)(x, name="ih").chunk(3)
    hr, hz, hn = nn.Linear(7, 21)(h, name="hh").chunk(3)
    r, z = nn.Sigmoid()(r + hr), nn.Sigmoid()(z + hz)
    n = nn.Tanh()(n + r * hn)
    h2 = (1 - z) * n + z * h
    return take_parameters(nngraph.Graph([x, h], [nn.Identity()(h2), h2]), net)


def take_parameters(graph, net):
    graph.load_state_dict(
        {
            f"{part}.{kind}": getattr(net, f"{kind}_{part}_l0")
            for part in ("ih", "hh")
            for kind in ("weight", "bias")
        }
    )
    return graph.astype("f8")


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("text", ["LSTM(5, 7)", "GRU(5, 7)"])
def test_a_cell_wired_as_a_graph_and_unrolled_is_the_layer(text, training, device):
    net, x, state = made(text)
    state = tuple(s[0] for s in flat(state))
    cell = wired_lstm(net) if "LSTM" in text else wired_gru(net)
    unrolled = put(nn.Unroll(cell), device).train(training)
    put(net, device)
    x, state = move(x, device), move(state, device)
    whole = tuple(s.reshape((1, *s.shape)) for s in state)
    expected = net(x, *whole)
    y = unrolled(x, *state)
    close([a.reshape(-1) for a in flat(y)], [a.reshape(-1) for a in flat(expected)], 1e-12)
    dy = gradient(y)
    dlast = tuple(d.reshape((1, *d.shape)) for d in flat_tensors(dy[1]))
    expected = net.backward((x, *whole), (dy[0], dlast))
    dx = unrolled.backward((x, *state), dy)
    close([a.reshape(-1) for a in flat(dx)], [a.reshape(-1) for a in flat(expected)], 1e-12)
    grads = [getattr(net, f"grad_{kind}_{part}_l0") for part in ("ih", "hh") for kind in KINDS]
    close(flat(tuple(cell.gradients())), flat(tuple(grads)), 1e-12)


KINDS = "weight", "bias"


def test_truncation_is_running_stretches_one_after_another():
    net, x, (h, c) = made("LSTM(5, 7)")
    cell, state = wired_lstm(net), (h[0], c[0])
    truncated = nn.Unroll(cell, steps=3)
    y, last = truncated(x, state)
    dy = gradient((y, last))
    dx, dstate = truncated.backward((x, state), dy)
    grads = [g.copy() for g in cell.gradients()]
    cell.zero_grad()
    plain, starts = nn.Unroll(cell), [state]
    for first in (0, 3):
        starts.append(plain(x[first : first + 3], starts[-1])[1])
    parts = []
    for first, start in zip((0, 3, 6), starts, strict=True):
        stretch = x[first : first + 3], start
        end = plain(*stretch)[1]
        parts.append(
            plain.backward(stretch, (dy[0][first : first + 3], dy[1] if first == 6 else None))
        )
    close(flat(end), flat(last), 0)
    close([dx], [np.concatenate([part[0] for part in parts])], 1e-14)
    close(flat(dstate), flat(parts[0][1]), 1e-14)
    close(cell.gradients(), grads, 1e-12)


def test_dropout_stands_between_the_layers_only():
    net, x, _ = made("LSTM(5, 7, dropout=0.5)")
    y = net(x)[0]
    close([net.eval()(x)[0]], [y], 0)
    net, x, _ = made("LSTM(5, 64, 2, dropout=0.5)")
    dropped, plain = net(x)[0], net.eval()(x)[0]
    assert np.abs(dropped - plain).max() > 1e-3 and (dropped != 0).all()


def test_initial_parameters_are_uniform_within_one_over_the_root_of_hidden_size():
    net = nn.LSTM(3, 100)
    for array in net.parameters():
        assert np.abs(array).max() <= 0.1 and np.abs(array).max() > 0.09


def test_one_sequence_without_a_batch_is_refused_with_advice():
    with pytest.raises(
        ValueError, match=r"LSTM\(3, 4\): x must be \(t, n, 3\); one .* x\[:, None\]"
    ):
        nn.LSTM(3, 4)(np.ones((5, 3), "f4"))
    with pytest.raises(ValueError, match=r"x must be \(n, t, 3\); one sequence .* x\[None\]"):
        nn.GRU(3, 4, batch_first=True)(np.ones((5, 3), "f4"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("LSTM(0, 4)", "input_size must be a positive integer — got input_size 0"),
        ("GRU(3, 4, dropout=2)", "dropout must be from 0 to 1 — got dropout 2"),
        ("RNN(3, 4, nonlinearity='sigmoid')", "nonlinearity must be tanh or relu"),
        ("Unroll(3)", "cell must be a Module"),
        ("Unroll(Tanh(), 0)", "steps must be a positive integer or None"),
    ],
)
def test_wrong_options_are_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        eval(text, vars(nn))


def test_a_cell_that_gives_too_little_is_named():
    unrolled = nn.Unroll(nn.JoinTable(1))
    x, h = np.ones((4, 2, 3), "f4"), np.ones((2, 5), "f4")
    with pytest.raises(ValueError, match="cell must give y_t and 2 arrays of state"):
        unrolled(x, (h, h))


def test_a_state_of_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"= \(2, 3, 4\) — got state \(\(1, 3, 4\)\)"):
        nn.GRU(5, 4, 2)(np.ones((6, 3, 5), "f4"), np.zeros((1, 3, 4), "f4"))


def test_a_replaced_cell_is_the_one_that_is_saved(tmp_path):
    nn.seed(3)
    cell = nn.Sequential(nn.JoinTable(1), nn.Linear(7, 4), nn.Sigmoid())
    unrolled = nn.Unroll(cell, steps=2)
    unrolled.set_child("cell", nn.Sequential(nn.JoinTable(1), nn.Linear(7, 4), nn.Tanh()))
    x, h = np.ones((5, 2, 3), "f4"), np.zeros((2, 4), "f4")
    unrolled.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    close(flat(again(x, h)), flat(unrolled(x, h)), 0)
    assert again.steps == 2


def test_an_lstm_learns_to_recall_the_first_symbol():
    nn.seed(1)
    generator = np.random.default_rng(1)
    net, head, loss = nn.LSTM(2, 16), nn.Linear(16, 2), nn.CrossEntropyLoss()
    both = nn.Sequential(net, head)  # for the optimiser; run by hand below
    adam = nn.optim.Adam(both, lr=0.02)
    for _ in range(120):
        target = generator.integers(0, 2, 32)
        x = generator.normal(size=(8, 32, 2)).astype("f4") * 0.1
        x[0, np.arange(32), target] += 1
        y, _ = net(x)
        scores = head(y[-1])
        both.zero_grad()
        dy = np.zeros_like(y)
        dy[-1] = head.backward(y[-1], loss.backward(scores, target))
        net.backward(x, (dy, None))
        adam.step()
    assert (scores.argmax(1) == target).all()


@pytest.mark.parametrize("recurrent", [nn.RNN, nn.LSTM, nn.GRU])
def test_both_matrices_may_add_to_one_strided_gradient(recurrent):
    def gradient_of(arrange):
        nn.seed(0)
        net, x = recurrent(4, 4), np.random.default_rng(0).normal(size=(3, 2, 4)).astype("f4")
        shared = arrange(np.zeros_like(net.weight_ih_l0))
        net.grad_weight_ih_l0 = net.grad_weight_hh_l0 = shared
        y = net(x)
        net.backward(x, y)
        return shared

    expected = gradient_of(np.ascontiguousarray)
    np.testing.assert_allclose(gradient_of(np.asfortranarray), expected, rtol=1e-5, atol=1e-6)
    assert abs(expected).max() > 0.01
