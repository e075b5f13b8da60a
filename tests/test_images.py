"""Particular behaviour of pooling, normalisation, padding and shapes."""

import numpy as np
import pytest

from flambeau import kernels, nn

from cases import pooling
from test_modules import flat, move, put


def images(values, device):
    """Numbers as one image of one channel, on a device."""
    return move(np.array(values, "f4")[None, None], device)


def pooled(module, values, device):
    """The output of a pooling layer and the gradient of its input, dy being ones."""
    x = images(values, device)
    y = module(x)
    k = kernels.of(y)
    dx = module.backward(x, k.array(y, np.ones(y.shape, "f4")))
    return flat(y)[0][0, 0], flat(dx)[0][0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_the_first_of_equal_maxima_gets_the_gradient(device, training):
    module = nn.MaxPool2d(2, 1).train(training)
    _, dx = pooled(module, [[1, 2, 2], [2, 2, 0]], device)
    assert dx.tolist() == [[0, 2, 0], [0, 0, 0]]
    _, dx = pooled(nn.MaxPool2d(3, 1, 1), np.full((3, 3), -np.inf), device)
    assert dx.tolist() == [[4, 2, 0], [2, 1, 0], [0, 0, 0]]


def test_nan_wins_every_window_that_holds_it(device):
    values = np.zeros((4, 40))
    values[1, 3] = values[2, 3] = np.nan
    y, dx = pooled(nn.MaxPool2d(2, 1), values, device)
    assert np.isnan(y[:, 2:4]).all() and np.isnan(y).sum() == 6
    assert dx[1, 3] == 4 and dx[2, 3] == 2
    for module in (nn.AvgPool2d(2, 1), nn.AdaptiveAvgPool2d((2, 20))):
        y, _ = pooled(module, values, device)
        assert np.isnan(y).any() and not np.isnan(y[:, 5:]).any()


MAXIMA = [case for case in pooling.CASES if case.text.startswith("MaxPool2d")]


@pytest.mark.parametrize("case", MAXIMA, ids=lambda case: case.text)
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_pooling_without_positions_finds_the_same_values(device, case, last, dtype):
    module, x = case.make(), case.draw(dtype)
    x.flat[3], x.flat[-1] = np.nan, -np.inf
    if last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    x = move(x, device)
    expected = flat(module.train()(x))[0]
    assert module.saved is not None
    np.testing.assert_array_equal(flat(module.eval()(x))[0], expected)
    assert module.saved is None and module.pool(x, False)[1][0] is None


def test_a_dilated_window_outside_of_the_image_has_no_maximum(device):
    y, dx = pooled(nn.MaxPool2d(2, 1, 1, 4), np.ones((3, 3)), device)
    assert y.tolist() == [[-np.inf]] and not dx.any()


def test_one_image_is_refused_with_advice():
    for module in (
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.BatchNorm2d(3),
        nn.ZeroPad2d(1),
        nn.LocalResponseNorm(3, region="within"),
    ):
        with pytest.raises(ValueError, match=r"give one image as x\[None\] — got x \(3, 4, 5\)"):
            module(np.ones((3, 4, 5), "f4"))
        with pytest.raises(ValueError, match="x must be"):
            module(np.ones((3, 4), "f4"), np.ones((3, 4), "f4"))


@pytest.mark.parametrize(
    "text",
    [
        "MaxPool2d(0)",
        "MaxPool2d((2, 2, 2))",
        "MaxPool2d(2, stride=0)",
        "MaxPool2d(3, padding=2)",
        "MaxPool2d(2, dilation=0)",
        "AvgPool2d(2.5)",
        "AvgPool2d(2, padding=-1)",
        "AdaptiveAvgPool2d(0)",
        "AdaptiveAvgPool2d((1, 2, 3))",
        "BatchNorm2d(0)",
        "LocalResponseNorm(0)",
        "LocalResponseNorm(3, region='between')",
        "ZeroPad2d((1, 2))",
        "ZeroPad2d(0.5)",
        "Reshape(-1, -1)",
        "Reshape(-2)",
    ],
)
def test_impossible_options_are_refused_by_name(text):
    with pytest.raises(ValueError, match=rf"^{text.split('(')[0]}\(.* must be .* — got "):
        eval(text, vars(nn))


def test_axes_to_flatten_must_be_in_order():
    with pytest.raises(ValueError, match="axes 2 to 1, in this order — got x"):
        nn.Flatten(2, 1)(np.ones((2, 3, 4)))


def test_identity_passes_tuples():
    x = np.ones(2), (np.zeros(3), np.ones(1))
    assert nn.Identity("any", thing=1)(*x) == x
    assert nn.Identity().backward(x, x) == x


def test_within_a_channel_the_window_is_that_of_average_pooling(device):
    x = move(np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype("f4"), device)
    y = flat(put(nn.LocalResponseNorm(5, 2.0, 0.75, region="within"), device)(x))[0]
    x = flat(x)[0]
    energy = nn.AvgPool2d(5, 1, 2)(np.square(x))
    np.testing.assert_allclose(y, x * (1 + 2 * energy) ** -0.75, rtol=1e-5)


@pytest.mark.parametrize("shape", [(500, 2), (5, 2, 10, 40), (3, 2, 100, 120)])
def test_a_mean_far_from_zero_costs_no_digits(device, shape):
    if device == "host" and np.prod(shape) > 10000:
        shape = shape[:2] + (10, 12)
    x = np.random.default_rng(0).normal(size=shape) + 4096
    x = x.astype("f4")
    module = nn.BatchNorm1d(2, momentum=1.0) if x.ndim == 2 else nn.BatchNorm2d(2, momentum=1.0)
    y = flat(put(module, device)(move(x, device)))[0]
    exact = x.astype("f8")
    axes = (0, *range(2, x.ndim))
    mean, std = exact.mean(axes, keepdims=True), exact.std(axes, keepdims=True)
    np.testing.assert_allclose(y, (exact - mean) / std, rtol=0, atol=2e-3)
    np.testing.assert_allclose(flat(module.running_var)[0], exact.var(axes, ddof=1), rtol=1e-4)


def test_backward_leaves_the_running_statistics_alone():
    module = nn.BatchNorm2d(3)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("f4")
    y = module(x)
    expected = module.backward(x, y)
    state = module.state_dict()
    before = {name: value.copy() for name, value in state.items()}
    module.clear_state()
    assert (module.backward(x, y) == expected).all()
    assert all((module.state_dict()[name] == value).all() for name, value in before.items())


def test_half_precision_is_computed_by_the_reference():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype("f2")
    for module in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.BatchNorm2d(3), nn.LocalResponseNorm(3)):
        y = module(x)
        assert y.dtype == np.float16
        assert module.backward(x, y).dtype == np.float16


@pytest.mark.torch
@pytest.mark.parametrize("options", ["", ", momentum=None", ", momentum=0.9", ", affine=False"])
def test_running_statistics_are_those_of_pytorch_after_three_batches(device, options):
    import torch

    generator = np.random.default_rng(0)
    ours = put(eval(f"BatchNorm2d(4{options})", vars(nn)), device)
    theirs = eval(f"BatchNorm2d(4{options})", vars(torch.nn))
    for n in (2, 3, 5):
        x = generator.normal(2, 3, (n, 4, 3, 2)).astype("f4")
        ours(move(x, device))
        theirs(torch.from_numpy(x))
    state = ours.state_dict()
    assert list(state) == list(theirs.state_dict())
    assert state["num_batches_tracked"] == 3
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(state[name], value.numpy(), rtol=1e-5, atol=1e-6)
