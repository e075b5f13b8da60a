"""What must hold of containers and of the methods that every module has."""

import numpy as np
import pytest

from flambeau import nn, nngraph


def net():
    nn.seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def test_sequential_is_a_list_with_names():
    a = net()
    assert len(a) == 3
    assert a[0] is a["0"] and a[-1] is a["2"]
    assert [type(m).__name__ for m in a[1:]] == ["ReLU", "Linear"]
    a.insert(1, nn.Linear(6, 6)).append(nn.ReLU())
    assert list(a.named) == ["0", "1", "2", "3", "4"]
    assert isinstance(a.remove(1), nn.Linear)
    assert len(a) == 4
    b = nn.Sequential(("hidden", nn.Linear(4, 6)), ("bend", nn.ReLU()))
    b.insert(1, nn.ReLU(), "again")
    assert list(b.named) == ["hidden", "again", "bend"]
    assert list(b.state_dict()) == ["hidden.weight", "hidden.bias"]
    assert list(b[1:].named) == ["again", "bend"]
    assert nn.Sequential({"x": nn.ReLU()})["x"] is not None
    with pytest.raises(ValueError, match="the name 'bend' is taken"):
        b.append(nn.ReLU(), "bend")
    with pytest.raises(KeyError, match="no 'nothing' in Sequential: hidden, again, bend"):
        b["nothing"]


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match=r"must be a Module — got type .* did you mean ReLU\(\)\?"):
        nn.Sequential(nn.ReLU)
    with pytest.raises(TypeError, match="must be a Module — got int 3"):
        nn.Sequential(3)


def test_errors_name_every_container_they_pass():
    outer = nn.Sequential(("inner", net()), ("end", nn.ReLU()))
    with pytest.raises(ValueError, match=r"Linear\(4, 6\): x must be \(\*, 4\) — got x") as caught:
        outer(np.ones((2, 3), "f4"))
    assert caught.value.__notes__ == ["in layer 0 of Sequential", "in layer inner of Sequential"]


def test_nothing_below_the_first_learning_layer_is_computed():
    a = net()
    a[0].freeze()
    a.want_dx = False
    x = np.ones((5, 4), "f4")
    a.backward(x, np.ones_like(a(x)))
    assert a[0].grad_weight is None
    assert a[2].grad_weight.any()
    assert not a[2].want_dx


def test_freezing_until_a_child_freezes_what_is_before_it():
    a = net().freeze(until="1")
    assert a[0].frozen and a[1].frozen and not a[2].frozen
    assert [
        name
        for name, g in zip(["w0", "b0", "w2", "b2"], a.gradients(), strict=True)
        if g is not None
    ] == [
        "w2",
        "b2",
    ]
    a.train()
    assert not a[0].training and a[2].training
    with pytest.raises(ValueError, match=r"freeze\(until='9'\): must be one of 0, 1, 2"):
        a.freeze(until="9")
    assert all(g is not None for g in a.unfreeze().gradients())


def test_flat_parameters_are_views_and_sharing_survives():
    a = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    a[1].share(a[0])
    flat, grads = a.flatten_parameters()
    assert flat.shape == grads.shape == (16 + 4 + 8 + 2,)
    assert a[0].weight is a[1].weight
    flat[:] = 1
    assert (a[2].weight == 1).all() and (a[0].weight == 1).all()
    x = np.ones((3, 4), "f4")
    a.backward(x, np.ones_like(a(x)))
    assert grads.any()
    a.astype("f8")
    assert a[0].weight is a[1].weight and a[0].weight.dtype == np.float64


def test_shared_parameters_get_both_gradients_and_come_back_shared(tmp_path):
    a = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    a[2].share(a[0])
    nn.gradcheck(a, np.random.default_rng(0).normal(size=(3, 4)))
    assert len(a.parameters()) == 2
    a.save(tmp_path / "a.h5")
    b = nn.load(tmp_path / "a.h5")
    assert b[0].weight is b[2].weight and b[0].grad_weight is b[2].grad_weight
    c = a.clone()
    assert c[0].weight is c[2].weight and c[0].weight is not a[0].weight


def test_the_same_module_twice_keeps_separate_state(tmp_path):
    drop, linear = nn.Dropout(0.5), nn.Linear(4, 4)
    a = nn.Sequential(linear, drop, linear, drop)
    nn.gradcheck(a, np.random.default_rng(0).normal(size=(6, 4)))
    a.save(tmp_path / "a.h5")
    b = nn.load(tmp_path / "a.h5")
    assert b[0] is b[2] and b[1] is b[3]


def test_clones_share_what_is_named():
    a = net()
    b = a.clone("weight")
    assert b[0].weight is a[0].weight and b[0].bias is not a[0].bias
    assert b[0].grad_weight is a[0].grad_weight


def test_states_load_whole_or_not_at_all():
    a, b = net(), net()
    state = b.state_dict()
    a.load_state_dict(state)
    assert (a[0].weight == b[0].weight).all()
    before = a[0].weight.copy()
    wrong = {**net().state_dict(), "2.bias": np.zeros(3), "3.weight": np.zeros(1)}
    del wrong["0.bias"]
    with pytest.raises(ValueError) as caught:
        a.load_state_dict(wrong)
    for part in ("2.bias must be (2,) — got (3,)", "missing: 0.bias", "not known here: 3.weight"):
        assert part in str(caught.value)
    assert (a[0].weight == before).all()
    a.load_state_dict({"0.bias": np.ones(6), "other": np.ones(1)}, strict=False)
    assert (a[0].bias == 1).all()


def test_modules_of_your_own_are_whole_modules(tmp_path):
    class Twice(nn.Module):
        """y = f(f(x)), parts held as attributes and in a list."""

        def __init__(self, features):
            self.first = nn.Linear(features, features)
            self.rest = [nn.ReLU()]

        def forward(self, x):
            self.middle = self.first.forward(x)
            return self.rest[0].forward(self.middle)

        def backward(self, x, dy):
            return self.first.backward(x, self.rest[0].backward(self.middle, dy))

    a = Twice(3)
    assert list(a.state_dict()) == ["first.weight", "first.bias"]
    assert [name for name, _ in a.named_modules()] == ["", "first", "rest.0"]
    nn.gradcheck(a, np.random.default_rng(0).normal(size=(2, 3)))
    a.save(tmp_path / "a.h5")
    assert (nn.load(tmp_path / "a.h5").first.weight == a.first.weight).all()
    assert (
        a.replace(lambda m: nn.Tanh() if isinstance(m, nn.ReLU) else m).rest[0].__class__ is nn.Tanh
    )


def test_replace_rewrites_the_tree():
    a = net().replace(lambda m: nn.Tanh() if isinstance(m, nn.ReLU) else m)
    assert isinstance(a[1], nn.Tanh)
    assert a.find(nn.Tanh) == [a[1]] and a.find("2") is a[2]
    with pytest.raises(KeyError, match="no module '9'"):
        a.find("9")


def test_what_is_said_about_a_network_comes_back_with_it(tmp_path):
    a = net()
    nn.save(a, tmp_path / "a.h5", about={"labels": ["cat", "dog"]})
    b = nn.load(tmp_path / "a.h5")
    assert b.about == {"labels": ["cat", "dog"]}
    assert (b[2].weight == a[2].weight).all()


def test_large_networks_come_back(tmp_path):
    a = nn.Sequential(*(nn.Sequential(nn.Affine(1.0, i), nn.ReLU()) for i in range(1000)))
    a.save(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").stat().st_size > 2**16
    assert len(nn.load(tmp_path / "a.h5")) == 1000


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "net.h5"
    a = net()
    a.save(path)
    before = path.read_bytes()
    a[1].arguments = (object(),), {}
    with pytest.raises(TypeError, match="must be plain data or a module"):
        a.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.h5"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n" + b"\0" * 50])
def test_files_that_are_no_networks_are_refused(tmp_path, content):
    path = tmp_path / "net.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="net.h5"):
        nn.load(path)


def test_cut_files_are_refused(tmp_path):
    path = tmp_path / "net.h5"
    net().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="net.h5"):
        nn.load(path)


def test_a_class_that_is_not_defined_is_named(tmp_path):
    class Mine(nn.Module):
        """y = x"""

        def forward(self, x):
            return x

    Mine().save(tmp_path / "mine.h5")
    name = f"{Mine.__module__}.{Mine.__qualname__}"
    del nn.module.classes[name]
    with pytest.raises(ValueError, match="Mine, which is not defined here"):
        nn.load(tmp_path / "mine.h5")


def test_saved_state_can_be_taken_away_and_put_back():
    cell = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Tanh())
    xs = [np.random.default_rng(i).normal(size=(4, 3)).astype("f4") for i in range(2)]
    states, dys = [], []
    for x in xs:
        dys.append(np.ones_like(cell(x)))
        states.append(cell.take_saved())
    expected = cell.clone()
    cell.zero_grad()
    cell.put_saved(states[0])
    first = cell.backward(xs[0], dys[0])
    cell.put_saved(states[1])
    assert not np.allclose(first, cell.backward(xs[1], dys[1]))
    expected.zero_grad()
    expected.put_saved(states[0])
    assert (expected.backward(xs[0], dys[0]) == first).all()


def test_arrays_of_others_go_in_without_a_copy():
    class Lent:
        """An array that offers DLPack, and nothing else."""

        def __init__(self, array):
            self.array = array
            self.__dlpack__ = array.__dlpack__
            self.__dlpack_device__ = array.__dlpack_device__

    x = np.ones((2, 4), "f4")
    seen = []

    class Watch(nn.Module):
        """y = x"""

        def forward(self, x):
            seen.append(x)
            return x

    Watch()(Lent(x))
    assert np.shares_memory(seen[0], x)
    Watch()([[1.0, 2.0]])
    assert seen[1].dtype == np.float32
    with pytest.raises(TypeError, match="must be an array of numbers"):
        Watch()("text")


def test_the_summary_shows_shapes_and_counts():
    text = net().summary(np.ones((3, 4), "f4"))
    assert "Linear(6, 2)  (3, 2)" in text and text.endswith("44 parameters")


def test_a_module_shared_across_containers_keeps_what_each_use_saved():
    norm = nn.BatchNorm1d(3)
    net = nn.Sequential(norm, nn.Sequential(nn.Tanh(), norm)).astype("f8")
    nn.gradcheck(net, np.random.default_rng(0).normal(size=(5, 3)))


def test_a_module_shared_across_containers_is_one_again_when_loaded(tmp_path):
    inner = nn.Linear(3, 3)
    net = nn.Sequential(nn.Sequential(inner), nn.ConcatTable(nn.Sequential(nn.ReLU(), inner)))
    net.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert again[0][0] is again[1][0][1]
    assert (again[0][0].weight == inner.weight).all()


@pytest.mark.parametrize("graph", [False, True])
def test_modules_of_your_own_may_call_a_child_inner(graph):
    class Residual(nn.Module):
        def __init__(self, inner):
            self.inner = inner

        def forward(self, x):
            return x + self.inner.forward(x)

        def backward(self, x, dy):
            return dy + self.inner.backward(x, dy)

    layers = [Residual(nn.Linear(3, 3)), nn.ReLU()]
    if graph:
        x = nngraph.inputs("x")
        net = nngraph.Graph(x, layers[1](layers[0](x)))
    else:
        net = nn.Sequential(*layers)
    nn.gradcheck(net.astype("f8"), np.random.default_rng(0).normal(size=(4, 3)))
    net.eval()(np.ones((2, 3)))
    assert isinstance(layers[0].inner, nn.Linear) and len(net.parameters()) == 2


def test_a_float64_network_is_loaded_without_loss(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).astype("f8")
    net[0].weight += 1e-12
    net.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert again[0].weight.dtype == again[1].running_var.dtype == np.float64
    assert (again[0].weight == net[0].weight).all()


def nested():
    """Containers of every kind that keep values, in each other, with a module that occurs twice."""
    nn.seed(6)
    twice = nn.Linear(6, 6)
    x = nngraph.inputs("x")
    h = nn.Tanh()(twice(nn.ReLU()(twice(x))))
    graph = nngraph.Graph(x, nn.Dropout(0.2)(h + x))
    branches = nn.Concat(1, nn.Sequential(nn.Linear(6, 4), nn.Sigmoid()), nn.Linear(6, 2))
    pool = nn.Sequential(nn.Reshape(1, 1, 6), nn.MaxPool2d((1, 2)), nn.Flatten())
    return nn.Sequential(graph, nn.BatchNorm1d(6), nn.ReLU(), branches, pool, nn.Linear(3, 2))


def test_backward_once_gives_the_same_and_lets_go_of_what_was_kept():
    x, dy = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("f4")
    found = []
    for once in (False, True):
        net = nested()
        net.backward_once = once
        for _ in range(2):  # forward begins anew
            nn.seed(7)
            net(x)
            found.append([net.backward(x, dy[:, :2]), *(g.copy() for g in net.gradients())])
    for plain, once in zip(found[:2], found[2:], strict=True):
        for a, b in zip(plain, once, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="one backward to each forward; this is the second"):
        net.backward(x, dy[:, :2])
    inside = [m for m in net.modules() if m is not net]
    assert all(m.saved is None or m.saved == "spent" for m in inside)
    assert not any(m.backward_once for m in inside)
    net.eval()(
        x
    )  # which keeps nothing: backward computes the values again, as often as it is asked
    for _ in range(2):
        net.backward(x, dy[:, :2])
