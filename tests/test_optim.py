"""Optimisers and schedules: steps by hand, PyTorch's steps, what is kept between steps."""

import math

import numpy as np
import pytest

from flambeau import kernels, nn
from flambeau.nn import optim

STEPS = [
    ("SGD", dict(lr=0.1)),
    ("SGD", dict(lr=0.1, weight_decay=0.3)),
    ("SGD", dict(lr=0.1, momentum=0.9)),
    ("SGD", dict(lr=0.1, momentum=0.9, dampening=0.4, weight_decay=0.1)),
    ("SGD", dict(lr=0.1, momentum=0.8, nesterov=True)),
    ("SGD", dict(lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.2)),
    ("Adam", dict()),
    ("Adam", dict(lr=0.05, betas=(0.7, 0.95), eps=1e-3)),
    ("Adam", dict(lr=0.05, weight_decay=0.2)),
    ("AdamW", dict()),
    ("AdamW", dict(lr=0.05, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.2)),
    ("AdamW", dict(lr=0.05, weight_decay=0)),
]
each = pytest.mark.parametrize(("name", "options"), STEPS, ids=[f"{n}-{o}" for n, o in STEPS])


def numpy(x):
    return kernels.of(x).numpy(x).copy()


def place(device):
    return "cpu" if device in ("reference", "cpu") else device


def network(device="cpu", dtype="f8"):
    """A small network with parameters of several shapes."""
    nn.seed(4)
    net = nn.Sequential(nn.Linear(5, 7), nn.PReLU(), nn.Linear(7, 3, bias=False))
    return net.astype(dtype).to(place(device))


def set_gradients(net, step):
    """Gradients that depend on the number of the step only."""
    generator = np.random.default_rng(step)
    net.zero_grad()
    for w, dw in zip(net.parameters(), net.gradients(), strict=True):
        values = generator.normal(size=w.shape).astype(w.dtype)
        kernels.of(w).accumulate(dw, kernels.of(w).array(w, values))


def train(net, optimizer, steps):
    """Steps with those gradients; the parameters afterwards."""
    for step in steps:
        set_gradients(net, step)
        optimizer.step()
    return [numpy(w) for w in net.parameters()]


def close(got, expected, tolerance=1e-12):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@each
@pytest.mark.torch
def test_steps_are_those_of_pytorch(name, options, device):
    import torch

    net = network(device)
    theirs = [torch.tensor(numpy(w), requires_grad=True) for w in net.parameters()]
    optimizer = getattr(optim, name)(net, **options)
    expected = getattr(torch.optim, name)(theirs, **options)
    for step in range(5):
        set_gradients(net, step)
        for t, dw in zip(theirs, net.gradients(), strict=True):
            t.grad = torch.tensor(numpy(dw))
        optimizer.step()
        expected.step()
    close([numpy(w) for w in net.parameters()], [t.detach().numpy() for t in theirs])


@each
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_steps_agree_with_the_reference(name, options, dtype, device):
    with kernels.use("reference"):
        net = network(dtype=dtype)
        expected = train(net, getattr(optim, name)(net, **options), range(4))
    net = network(device, dtype)
    got = train(net, getattr(optim, name)(net, **options), range(4))
    assert all(a.dtype == dtype for a in got)
    close(got, expected, 2e-6 if dtype == "f4" else 1e-14)


class One(nn.Module):
    """A single number."""

    params = ("weight",)

    def __init__(self, value=1.0):
        self.weight = np.array([value])


def walk(optimizer, gradients):
    """The values of the one number after each step."""
    net, values = optimizer.net, []
    for gradient in gradients:
        k = kernels.of(net.grad_weight)
        k.fill(net.grad_weight, gradient)
        optimizer.step()
        values.append(float(numpy(net.weight)[0]))
    return values


def one(device, value=1.0):
    return One(value).to(place(device))


def test_sgd_steps_by_hand(device):
    assert walk(optim.SGD(one(device), lr=0.5), [2, -1]) == [0.0, 0.5]
    # v = 2, then 0.5 · 2 − 1 = 0
    assert walk(optim.SGD(one(device), lr=0.5, momentum=0.5), [2, -1]) == [0.0, 0.0]
    # v = 2, then 0.5 · 2 − 0.75 · 1 = 0.25
    damped = optim.SGD(one(device), lr=0.5, momentum=0.5, dampening=0.25)
    assert walk(damped, [2, -1]) == [0.0, -0.125]
    # d + 0.5 v: 2 + 1 = 3, then v = 0, −1 + 0 = −1
    ahead = optim.SGD(one(device), lr=0.5, momentum=0.5, nesterov=True)
    assert walk(ahead, [2, -1]) == [-0.5, 0.0]
    # d = 2 + 0.5 · 1 = 2.5, then −1 − 0.125 = −1.125
    assert walk(optim.SGD(one(device), lr=0.5, weight_decay=0.5), [2, -1]) == [-0.25, 0.3125]


def test_adam_steps_by_hand(device):
    got = walk(optim.Adam(one(device), lr=0.1, betas=(0.5, 0.5), eps=0.5), [4, -2])
    first = 1 - 0.1 * 4 / (4 + 0.5)  # both means are corrected to 4 and 16
    m, v = (0.5 * 2 - 1) / 0.75, (0.5 * 8 + 2) / 0.75
    assert got == pytest.approx([first, first - 0.1 * m / (math.sqrt(v) + 0.5)], rel=1e-14)
    got = walk(optim.Adam(one(device, 2.0), lr=0.1, eps=0, weight_decay=0.5), [0])
    assert got == pytest.approx([1.9], rel=1e-14)  # the decay alone is the gradient, its sign 1


def test_the_decay_of_adamw_does_not_enter_the_means(device):
    got = walk(optim.AdamW(one(device, 2.0), lr=0.1, eps=0.5, weight_decay=0.5), [0])
    assert got == pytest.approx([2.0 * 0.95], rel=1e-14)
    got = walk(optim.AdamW(one(device, 2.0), lr=0.1, eps=0.5, weight_decay=0.5), [4])
    assert got == pytest.approx([2.0 * 0.95 - 0.1 * 4 / 4.5], rel=1e-14)


def test_frozen_modules_and_those_without_a_gradient_stay_as_they_are(device):
    net = network(device)
    optimizer = optim.SGD(net, lr=0.1, momentum=0.9, weight_decay=0.5)
    before = [numpy(w) for w in net.parameters()]
    optimizer.step()  # no backward yet
    close([numpy(w) for w in net.parameters()], before, 0)
    set_gradients(net, 0)
    net[0].freeze()
    optimizer.step()
    after = [numpy(w) for w in net.parameters()]
    close(after[:2], before[:2], 0)
    assert all((a != b).any() for a, b in zip(after[2:], before[2:], strict=True))


def test_a_parameter_used_twice_is_stepped_once(device):
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    net.astype("f8").to(place(device))
    net[1].share(net[0])
    before = numpy(net[0].weight)
    set_gradients(net, 0)
    gradient = numpy(net[0].grad_weight)
    optim.SGD(net, lr=0.5).step()
    close([numpy(net[0].weight), numpy(net[1].weight)], [before - 0.5 * gradient] * 2)


def test_zero_grad_clears_the_gradients_of_the_network(device):
    net = network(device)
    set_gradients(net, 0)
    optim.SGD(net, lr=0.1).zero_grad()
    assert all(not numpy(dw).any() for dw in net.gradients())


def test_a_closure_is_called_before_the_step_and_its_loss_returned(device):
    net = one(device)
    optimizer = optim.SGD(net, lr=0.5)

    def closure():
        kernels.of(net.grad_weight).fill(net.grad_weight, 2)
        return 7.5

    assert optimizer.step(closure) == 7.5
    assert numpy(net.weight).tolist() == [0.0]
    assert optimizer.step() is None


@each
def test_flattening_between_steps_changes_nothing(name, options, device):
    net = network(device)
    expected = train(net, getattr(optim, name)(net, **options), range(4))
    net = network(device)
    optimizer = getattr(optim, name)(net, **options)
    train(net, optimizer, range(2))
    flat, _ = net.flatten_parameters()
    close(train(net, optimizer, range(2, 4)), expected)
    close([numpy(flat)], [np.concatenate([w.ravel() for w in expected])])


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_moving_and_converting_between_steps_keeps_the_state(name):
    options = dict(lr=0.1, momentum=0.9) if name == "SGD" else dict(lr=0.1)
    net = network()
    expected = train(net, getattr(optim, name)(net, **options), range(6))
    net = network()
    optimizer = getattr(optim, name)(net, **options)
    train(net, optimizer, range(2))
    train(net.to("host"), optimizer, range(2, 4))
    close(train(net.to("cpu"), optimizer, range(4, 6)), expected)
    train(net.astype("f4"), optimizer, [6])
    kept = optimizer.state_dict()["state"]["0.weight"]
    assert {v.dtype for n, v in kept.items() if n != "step"} == {np.dtype("f4")}


@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize("outputs", [3, 4])
def test_a_new_head_starts_with_no_state(name, outputs):
    options = dict(lr=0.1, momentum=0.9) if name == "SGD" else dict(lr=0.1)
    net = network()
    optimizer = getattr(optim, name)(net, **options)
    train(net, optimizer, range(3))
    net[2] = nn.Linear(7, outputs, bias=False).astype("f8")
    before = numpy(net[2].weight)
    got = train(net, optimizer, [5])[-1]
    step = numpy(net[2].grad_weight) if name == "SGD" else np.sign(numpy(net[2].grad_weight))
    np.testing.assert_allclose(got, before - 0.1 * step, atol=1e-6)
    assert optimizer.state["2.weight"]["step"] == 1
    assert optimizer.state["0.weight"]["step"] == 4


@each
def test_a_state_that_is_saved_and_loaded_goes_on_as_if_nothing_had_happened(name, options, device):
    net = network(device)
    optimizer = getattr(optim, name)(net, **options)
    train(net, optimizer, range(2))
    state, weights = optimizer.state_dict(), net.state_dict()
    frozen_in = {p: {n: np.array(v) for n, v in s.items()} for p, s in state["state"].items()}
    weights = {n: w.copy() for n, w in weights.items()}
    expected = train(net, optimizer, range(2, 5))
    for path, kept in state["state"].items():
        for key, value in kept.items():
            np.testing.assert_array_equal(value, frozen_in[path][key])
    other = network(device).load_state_dict(weights)
    again = getattr(optim, name)(other, **options | dict(lr=9.0))
    again.load_state_dict(state)
    assert repr(again) == repr(optimizer)
    close(train(other, again, range(2, 5)), expected)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing():
    net = network()
    optimizer = optim.SGD(net, lr=0.1, momentum=0.9)
    train(net, optimizer, [0])
    state = optimizer.state_dict()
    state["options"]["betas"] = 1
    state["options"]["lr"] = 5
    state["state"]["7.weight"] = {"step": 1}
    state["state"]["0.weight"]["momentum_buffer"] = np.ones(3)
    with pytest.raises(ValueError) as caught:
        optimizer.load_state_dict(state)
    text = str(caught.value)
    assert "betas is not an option" in text
    assert "7.weight is not a parameter" in text
    assert "momentum_buffer of 0.weight must be (7, 5) — got (3,)" in text
    assert optimizer.lr == 0.1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda net: optim.SGD(net, lr=-1), "lr must not be negative — got -1"),
        (lambda net: optim.SGD(net, lr=1, momentum=-0.1), "momentum must not be negative"),
        (lambda net: optim.SGD(net, lr=1, nesterov=True), "nesterov needs a momentum"),
        (lambda net: optim.Adam(net, betas=(0.9, 1.0)), "betas must be two numbers"),
        (lambda net: optim.AdamW(net, weight_decay=-1), "weight_decay must not be negative"),
        (lambda net: optim.StepLR(optim.SGD(net, lr=1), 0), "step_size must be at least 1"),
        (lambda net: optim.CosineLR(optim.SGD(net, lr=1), 0), "t_max must be at least 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(network())


def test_the_repr_shows_the_options_of_now():
    optimizer = optim.SGD(network(), lr=0.1, momentum=0.9)
    optimizer.lr = 0.01
    assert repr(optimizer) == (
        "SGD(lr=0.01, momentum=0.9, dampening=0, weight_decay=0, nesterov=False)"
    )


SCHEDULES = [
    ("StepLR", (3,), "StepLR", (3,)),
    ("StepLR", (2, 0.5), "StepLR", (2, 0.5)),
    ("CosineLR", (10,), "CosineAnnealingLR", (10,)),
    ("CosineLR", (7, 0.01), "CosineAnnealingLR", (7, 0.01)),
]


def rates(optimizer, schedule, epochs, rate):
    """The learning rate before each epoch."""
    found = []
    for _ in range(epochs):
        found.append(rate())
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.torch
@pytest.mark.parametrize(("name", "args", "theirs", "their_args"), SCHEDULES)
def test_schedules_are_those_of_pytorch(name, args, theirs, their_args):
    import torch

    ours = optim.SGD(network(), lr=0.3)
    other = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    schedule = getattr(torch.optim.lr_scheduler, theirs)(other, *their_args)
    got = rates(ours, getattr(optim, name)(ours, *args), 7, lambda: ours.lr)
    expected = rates(other, schedule, 7, lambda: other.param_groups[0]["lr"])
    assert got == pytest.approx(expected, rel=1e-12)


def test_schedules_follow_their_formulas():
    optimizer = optim.SGD(network(), lr=8.0)
    got = rates(optimizer, optim.StepLR(optimizer, 2, 0.5), 6, lambda: optimizer.lr)
    assert got == [8, 8, 4, 4, 2, 2]
    optimizer = optim.SGD(network(), lr=8.0)
    got = rates(optimizer, optim.CosineLR(optimizer, 4, 2.0), 5, lambda: optimizer.lr)
    half = 3 * math.sqrt(0.5)
    assert got == pytest.approx([8, 5 + half, 5, 5 - half, 2])


@pytest.mark.parametrize(("name", "args", "theirs", "their_args"), SCHEDULES)
def test_a_schedule_goes_on_from_its_state(name, args, theirs, their_args):
    optimizer = optim.SGD(network(), lr=0.3)
    schedule = getattr(optim, name)(optimizer, *args)
    for _ in range(4):
        schedule.step()
    other = optim.SGD(network(), lr=1.0)
    again = getattr(optim, name)(other, *args)
    again.load_state_dict(schedule.state_dict())
    assert other.lr == optimizer.lr
    schedule.step()
    again.step()
    assert other.lr == optimizer.lr


def test_read_only_parameters_are_not_written_to():
    net = nn.Linear(3, 2)
    net.weight.flags.writeable = False  # as memory that is mapped from a file
    net.grad_weight[...] = 1
    before = net.weight.copy()
    for optimizer in (nn.optim.SGD(net, 0.1), nn.optim.Adam(net)):
        with pytest.raises(ValueError, match="read-only"):
            optimizer.step()
    assert (net.weight == before).all()


def test_parameters_made_read_only_between_steps_are_not_written_to():
    for make in (lambda net: nn.optim.SGD(net, 0.1, momentum=0.9), nn.optim.Adam):
        net = nn.Linear(3, 2)
        net.grad_weight[...] = 1
        optimizer = make(net)
        optimizer.step()
        net.weight.flags.writeable = False
        before = net.weight.copy()
        with pytest.raises(ValueError, match="read-only"):
            optimizer.step()
        assert (net.weight == before).all()


def test_kept_arrays_made_read_only_between_steps_are_not_written_to():
    net = nn.Linear(3, 2)
    net.grad_weight[...] = 1
    sgd = nn.optim.SGD(net, 0.1, momentum=0.9)
    sgd.step()
    kept = sgd.state["weight"]["momentum_buffer"]
    kept.flags.writeable = False
    before = kept.copy()
    with pytest.raises(ValueError, match="read-only"):
        sgd.step()
    assert (kept == before).all()


CHANGES = {  # between two steps: what a user may do to the parameter, its gradient or the state
    "weight": lambda layer, kept: setattr(layer, "weight", layer.weight + 1),
    "gradient": lambda layer, kept: setattr(layer, "grad_weight", layer.grad_weight * 3),
    "buffer": lambda layer, kept: kept.update(momentum_buffer=kept["momentum_buffer"] - 1),
    "step": lambda layer, kept: kept.update(step=0),
    "frozen": lambda layer, kept: layer.freeze(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_changed_between_steps_counts_in_the_next(what):
    net = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Linear(2, 4, bias=False)).astype("f8")
    sgd = optim.SGD(net, lr=0.5, momentum=0.75)
    for _ in range(2):
        set_gradients(net, 1)
        sgd.step()
    others = net[1].weight.copy(), net[1].grad_weight, sgd.state["1.weight"]["momentum_buffer"]
    CHANGES[what](net[0], sgd.state["0.weight"])
    w, dw, kept = net[0].weight.copy(), net[0].grad_weight, sgd.state["0.weight"]
    v = kept["momentum_buffer"].copy()
    expected = others[0] - 0.5 * (0.75 * others[2] + others[1])
    sgd.step()
    np.testing.assert_allclose(net[1].weight, expected, rtol=1e-14)
    if what == "frozen":
        np.testing.assert_array_equal(net[0].weight, w)
    else:
        v = dw if what == "step" else 0.75 * v + dw
        np.testing.assert_allclose(net[0].weight, w - 0.5 * v, rtol=1e-14)
        np.testing.assert_allclose(kept["momentum_buffer"], v, rtol=1e-14)


def test_momentum_may_come_and_go_between_steps():
    net = nn.Linear(3, 2, bias=False).astype("f8")
    sgd = optim.SGD(net, lr=0.5, momentum=0)
    for momentum, times in ((0, 1), (0.5, 1), (0.5, 1.5), (0, 1), (0.5, 1.25)):
        sgd.momentum = momentum
        before, net.grad_weight = net.weight.copy(), np.ones((2, 3))
        kept = sgd.state.get("weight", {}).get("momentum_buffer")
        if kept is not None and times == 1.25:
            kept[...] = 0.5
        sgd.step()
        np.testing.assert_allclose(net.weight, before - 0.5 * times, rtol=1e-14)
