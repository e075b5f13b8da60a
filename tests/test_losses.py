"""Losses: formulas by hand, calculus, targets that are refused, PyTorch."""

import math

import numpy as np
import pytest

from flambeau import kernels, nn

ROWS = [
    ("CrossEntropyLoss()", (6, 5), "class"),
    ("CrossEntropyLoss()", (1, 1), "class"),
    ("CrossEntropyLoss(reduction='sum')", (6, 70), "class"),
    ("CrossEntropyLoss(label_smoothing=0.1)", (6, 5), "class"),
    ("CrossEntropyLoss(label_smoothing=1.0)", (6, 5), "class"),
    ("CrossEntropyLoss(weight=[0.5, 2.0, 1.0])", (8, 3), "class"),
    ("CrossEntropyLoss(weight=[0.5, 2.0, 0.0], label_smoothing=0.3)", (8, 3, 4), "class"),
    ("CrossEntropyLoss(ignore_index=1)", (8, 3, 4, 5), "class"),
    ("CrossEntropyLoss([1.0, 3.0, 0.5], 2, 'sum', 0.2)", (4, 3, 7), "class"),
    ("NLLLoss()", (6, 5), "class"),
    ("NLLLoss(weight=[0.5, 2.0, 1.0])", (8, 3, 4), "class"),
    ("NLLLoss(ignore_index=0, reduction='sum')", (8, 3, 4, 5), "class"),
    ("MSELoss()", (4, 5), "value"),
    ("MSELoss()", (7,), "value"),
    ("MSELoss(reduction='sum')", (3, 50, 40), "value"),
    ("L1Loss()", (4, 5), "value"),
    ("L1Loss(reduction='sum')", (3, 50, 40), "value"),
    ("SmoothL1Loss()", (4, 5), "value"),
    ("SmoothL1Loss(beta=0.3)", (4, 5), "value"),
    ("SmoothL1Loss(beta=0.0)", (7,), "value"),
    ("HuberLoss()", (4, 5), "value"),
    ("HuberLoss(reduction='sum', delta=0.4)", (4, 5), "value"),
    ("BCELoss()", (4, 5), "share"),
    ("BCELoss(reduction='sum')", (90, 50), "share"),
    ("BCEWithLogitsLoss()", (4, 5), "value"),
    ("BCEWithLogitsLoss(reduction='sum')", (4, 5), "value"),
    ("KLDivLoss()", (4, 5), "share"),
    ("KLDivLoss(reduction='batchmean')", (4, 5), "share"),
    ("KLDivLoss(reduction='sum', log_target=True)", (4, 5), "value"),
]
IDS = [f"{text}-{shape}" for text, shape, _ in ROWS]
each = pytest.mark.parametrize(("text", "shape", "kind"), ROWS, ids=IDS)


def draw(shape, kind, dtype="f8"):
    """An output and a target, the first target being one that ignore_index may name."""
    generator = np.random.default_rng(4)
    output = generator.normal(size=shape).astype(dtype)
    if kind == "share":
        return tuple(generator.uniform(0.1, 0.9, (2, *shape)).astype(dtype))
    if kind == "value":
        return output, generator.normal(size=shape).astype(dtype)
    return output, generator.integers(0, shape[1], (shape[0], *shape[2:]))


def on(device, *arrays):
    """Arrays on a device of the tests."""
    where = "cpu" if device in ("reference", "cpu") else device
    return [kernels.to(a, where) for a in arrays]


def numpy(x):
    return kernels.of(x).numpy(x)


@each
def test_backward_is_the_slope_of_forward(text, shape, kind, device):
    loss = eval(text, vars(nn))
    output, target = draw(shape, kind)
    v = np.random.default_rng(8).normal(size=shape)
    eps = 1e-6
    high, low = (loss(*on(device, output + s * eps * v, target)) for s in (1, -1))
    slope = (high - low) / (2 * eps)
    grad = numpy(loss.backward(*on(device, output, target)))
    assert grad.shape == shape
    assert float((grad * v).sum()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


@each
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("other", ["cpu", "host", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_devices_agree_with_the_reference(text, shape, kind, other, dtype):
    loss = eval(text, vars(nn))
    output, target = draw(shape, kind, dtype)
    with kernels.use("reference"):
        expected, expected_grad = loss(output, target), loss.backward(output, target)
    with kernels.use("cpu" if other == "cpu" else "reference"):
        arrays = on(other, output, target)
        value, grad = loss(*arrays), numpy(loss.backward(*arrays))
    tolerance = 2e-5 if dtype == "f4" else 1e-12
    assert isinstance(value, float)
    assert value == pytest.approx(expected, rel=tolerance, abs=tolerance)
    assert grad.dtype == dtype
    np.testing.assert_allclose(grad, expected_grad, rtol=0, atol=tolerance)


@each
def test_strided_arrays_give_the_same(text, shape, kind, device):
    loss = eval(text, vars(nn))
    output, target = on(device, *draw(shape, kind))
    expected = loss(output, target), numpy(loss.backward(output, target))
    if len(shape) < 2:
        return
    twisted = [on(device, np.ascontiguousarray(numpy(a).T))[0].T for a in (output, target)]
    assert loss(*twisted) == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(numpy(loss.backward(*twisted)), expected[1], atol=1e-12)


@each
def test_results_are_the_same_bits_from_run_to_run(text, shape, kind, device):
    loss = eval(text, vars(nn))
    arrays = on(device, *draw(shape, kind, "f4"))
    values = {loss(*arrays) for _ in range(3)}
    grads = {numpy(loss.backward(*arrays)).tobytes() for _ in range(3)}
    assert (len(values), len(grads)) == (1, 1)


@each
def test_the_repr_is_the_constructor_call(text, shape, kind):
    loss = eval(text, vars(nn))
    assert repr(eval(repr(loss), vars(nn))) == repr(loss)
    assert repr(loss).startswith(text.split("(")[0])


@each
@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
def test_losses_are_those_of_pytorch(text, shape, kind, device):
    import torch

    loss = eval(text, vars(nn))
    args, kwargs = loss.arguments
    change = {"weight": lambda w: torch.tensor(w, dtype=torch.float64)}
    args = [change["weight"](a) if isinstance(a, list) else a for a in args]
    kwargs = {k: change.get(k, lambda v: v)(v) for k, v in kwargs.items()}
    names = "weight", "ignore_index", "reduction", "label_smoothing"
    theirs = getattr(torch.nn, type(loss).__name__)(
        **dict(zip(names, args, strict=False)), **kwargs
    )
    output, target = draw(shape, kind)
    tensor = torch.tensor(output, requires_grad=True)
    expected = theirs(tensor, torch.tensor(target))
    expected.backward()
    arrays = on(device, output, target)
    assert loss(*arrays) == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(numpy(loss.backward(*arrays)), tensor.grad.numpy(), atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(
    "text", ["CrossEntropyLoss()", "NLLLoss()", "CrossEntropyLoss([1.0, 2.0])"]
)
def test_where_every_target_is_ignored_the_mean_is_nan_and_the_gradient_zero_as_in_pytorch(
    text, device
):
    import torch

    loss = eval(text, vars(nn))
    theirs = getattr(torch.nn, type(loss).__name__)()
    output, target = np.ones((3, 2)), np.full(3, -100)
    tensor = torch.tensor(output, requires_grad=True)
    expected = theirs(tensor, torch.tensor(target))
    expected.backward()
    arrays = on(device, output, target)
    assert math.isnan(expected.item())
    assert math.isnan(loss(*arrays))
    np.testing.assert_array_equal(numpy(loss.backward(*arrays)), tensor.grad.numpy())


def test_cross_entropy_is_minus_the_logarithm_of_the_targets_probability(device):
    output, target = on(device, np.log([[0.2, 0.3, 0.5], [0.7, 0.1, 0.2]]), np.array([2, 0]))
    expected = -(math.log(0.5) + math.log(0.7)) / 2
    assert nn.CrossEntropyLoss()(output, target) == pytest.approx(expected, rel=1e-14)
    weighted = -(4 * math.log(0.5) + 1 * math.log(0.7)) / 5
    assert nn.CrossEntropyLoss([1, 2, 4])(output, target) == pytest.approx(weighted, rel=1e-14)
    grad = numpy(nn.CrossEntropyLoss(reduction="sum").backward(output, target))
    np.testing.assert_allclose(grad, [[0.2, 0.3, -0.5], [-0.3, 0.1, 0.2]], atol=1e-14)


def test_label_smoothing_spreads_its_share_over_all_classes(device):
    p = np.array([[0.2, 0.3, 0.5]])
    output, target = on(device, np.log(p), np.array([2]))
    shares = np.array([0.1, 0.1, 0.8])
    expected = -float((shares * np.log(p)).sum())
    loss = nn.CrossEntropyLoss(label_smoothing=0.3)
    assert loss(output, target) == pytest.approx(expected, rel=1e-14)
    np.testing.assert_allclose(numpy(loss.backward(output, target)), p - shares, atol=1e-14)


def test_cross_entropy_of_large_outputs_does_not_overflow(device):
    for dtype in ("f4", "f8"):
        values = np.array([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4]], dtype)
        output, target = on(device, values, np.array([0, 0]))
        assert nn.CrossEntropyLoss(reduction="sum")(output, target) == 2e4
        grad = numpy(nn.CrossEntropyLoss(reduction="sum").backward(output, target))
        np.testing.assert_array_equal(grad, np.array([[0, 0, 0], [-1, 0, 1]], dtype))


def test_a_class_ruled_out_by_minus_infinity_counts_nothing(device):
    output, target = on(device, np.array([[0.0, -np.inf, 0.0]]), np.array([2]))
    assert nn.CrossEntropyLoss()(output, target) == pytest.approx(math.log(2))
    grad = numpy(nn.CrossEntropyLoss().backward(output, target))
    np.testing.assert_allclose(grad, [[0.5, 0, -0.5]], atol=1e-14)
    log_p = on(device, np.array([[-1.0, -np.inf, -2.0]]))[0]
    assert nn.NLLLoss()(log_p, target) == 2.0


def test_mean_squared_error_is_the_mean_of_the_squares(device):
    output, target = on(device, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1, 2], [3, 8]]))
    assert nn.MSELoss()(output, target) == 4.0
    assert nn.MSELoss(reduction="sum")(output, target) == 16.0
    assert numpy(nn.MSELoss().backward(output, target)).tolist() == [[0, 0], [0, -2]]


POINTWISE = "MSELoss L1Loss SmoothL1Loss HuberLoss BCELoss BCEWithLogitsLoss KLDivLoss".split()


@pytest.mark.parametrize("name", POINTWISE)
def test_without_reduction_each_element_has_its_loss(name, device):
    arrays = on(device, *draw((3, 4), "share"))
    each, whole = getattr(nn, name)("none"), getattr(nn, name)("sum")
    losses = numpy(each(*arrays))
    assert losses.shape == (3, 4)
    assert losses.sum() == pytest.approx(whole(*arrays), rel=1e-13)
    gradients = numpy(each.backward(*arrays)), numpy(whole.backward(*arrays))
    np.testing.assert_array_equal(*gradients)


@pytest.mark.torch
@pytest.mark.parametrize("name", POINTWISE)
def test_losses_without_reduction_are_those_of_pytorch(name, device):
    import torch

    output, target = draw((3, 4), "share")
    theirs = getattr(torch.nn, name)(reduction="none")(torch.tensor(output), torch.tensor(target))
    losses = numpy(getattr(nn, name)("none")(*on(device, output, target)))
    np.testing.assert_allclose(losses, theirs.numpy(), rtol=1e-13)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["CrossEntropyLoss", "NLLLoss"])
@pytest.mark.parametrize(
    "options", [{}, {"ignore_index": 1}, {"weight": [0.5, 2.0, 1.0]}, {"label_smoothing": 0.2}]
)
def test_classes_without_reduction_are_those_of_pytorch(name, options, device):
    import torch

    if name == "NLLLoss":
        options = {k: v for k, v in options.items() if k != "label_smoothing"}
    theirs = {
        k: torch.tensor(v, dtype=torch.float64) if k == "weight" else v for k, v in options.items()
    }
    output, target = draw((4, 3, 5), "class")
    tensor = torch.tensor(output, requires_grad=True)
    expected = getattr(torch.nn, name)(**theirs, reduction="none")(tensor, torch.tensor(target))
    expected.sum().backward()
    loss, arrays = getattr(nn, name)(**options, reduction="none"), on(device, output, target)
    np.testing.assert_allclose(numpy(loss(*arrays)), expected.detach().numpy(), atol=1e-13)
    np.testing.assert_allclose(numpy(loss.backward(*arrays)), tensor.grad.numpy(), atol=1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_cross_entropies_of_certain_outputs_are_finite(dtype, device):
    output, target = on(device, np.array([0, 1, 0, 1], dtype), np.array([0, 1, 1, 0], dtype))
    assert numpy(nn.BCELoss("none")(output, target)).tolist() == [0, 0, 100, 100]
    assert np.isfinite(numpy(nn.BCELoss("none").backward(output, target))).all()
    (output,) = on(device, np.array([-1e4, 1e4, -1e4, 1e4], dtype))
    assert numpy(nn.BCEWithLogitsLoss("none")(output, target)).tolist() == [0, 0, 1e4, 1e4]
    assert numpy(nn.BCEWithLogitsLoss("none").backward(output, target)).tolist() == [0, 0, -1, 1]


def test_a_share_of_zero_has_no_divergence(device):
    output, target = on(device, np.log(np.array([[0.5, 0.5]])), np.array([[1.0, 0.0]]))
    assert nn.KLDivLoss("batchmean")(output, target) == pytest.approx(math.log(2))
    assert numpy(nn.KLDivLoss("none")(output, target))[0, 1] == 0


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "i8", "u8"])
def test_targets_of_any_integer_dtype_count_from_0(dtype, device):
    (output,) = on(device, np.array([[-1.0, -2.0], [-3.0, -5.0]]))
    target = np.array([1, 0]).astype(dtype)
    assert nn.NLLLoss()(output, target) == 2.5
    if dtype in ("i4", "i8", "u1"):
        assert nn.NLLLoss()(output, *on(device, target)) == 2.5


def test_the_first_target_out_of_range_is_named_with_its_place(device):
    output, target = draw((2, 5, 4), "class")
    target[1, 2], target[1, 3] = 5, -1
    for loss in (nn.CrossEntropyLoss(), nn.NLLLoss()):
        for call in (loss, loss.backward):
            with pytest.raises(ValueError) as caught:
                call(*on(device, output, target))
            assert str(caught.value) == (
                f"{loss!r}: targets must be from 0 to 4, or -100 to be ignored "
                "— got target[1, 2] = 5; classes are counted from 0"
            )


@pytest.mark.parametrize(
    ("loss", "output", "target", "message"),
    [
        ("CrossEntropyLoss()", np.ones((3, 2)), np.zeros(2, int), r"target must be \(3,\)"),
        ("CrossEntropyLoss()", np.ones((3, 2)), np.zeros((3, 1), int), r"target must be \(3,\)"),
        ("CrossEntropyLoss()", np.ones(3), np.zeros(3, int), r"output must be \(n, c, \*\)"),
        ("CrossEntropyLoss()", np.ones((3, 2)), np.zeros(3), "target must hold integers"),
        ("CrossEntropyLoss()", np.ones((3, 2), int), np.zeros(3, int), "output must hold floats"),
        ("NLLLoss([1.0, 2.0])", np.ones((3, 4)), np.zeros(3, int), r"output must be \(n, 2, \*\)"),
        ("MSELoss()", np.ones((3, 2)), np.ones((3, 1)), r"target must be \(3, 2\)"),
    ],
)
def test_outputs_and_targets_that_do_not_fit_are_refused(loss, output, target, message):
    loss = eval(loss, vars(nn))
    for call in (loss, loss.backward):
        with pytest.raises(ValueError, match=message):
            call(output, target)


@pytest.mark.parametrize(
    "text",
    [
        "CrossEntropyLoss(reduction='all')",
        "MSELoss('average')",
        "CrossEntropyLoss(label_smoothing=1.5)",
        "NLLLoss(weight=[[1.0]])",
        "L1Loss('batchmean')",
        "SmoothL1Loss(beta=-1)",
        "HuberLoss(delta=0)",
    ],
)
def test_options_that_mean_nothing_are_refused(text):
    with pytest.raises(ValueError, match="must be"):
        eval(text, vars(nn))


def test_an_empty_batch_has_a_sum_of_zero_and_a_mean_of_nan(device):
    output, target = on(device, np.ones((0, 3)), np.zeros(0, int))
    assert math.isnan(nn.CrossEntropyLoss()(output, target))
    assert nn.CrossEntropyLoss(reduction="sum")(output, target) == 0
    assert nn.CrossEntropyLoss().backward(output, target).shape == (0, 3)


def test_a_network_trained_by_a_loss_and_an_optimiser_learns(device):
    nn.seed(1)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    net.to("cpu" if device in ("reference", "cpu") else device)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4")
    x, target = on(device, x, np.array([0, 1, 1, 0]))
    loss, optimizer = nn.CrossEntropyLoss(), nn.optim.Adam(net, lr=0.05)
    before = loss(net(x), target)
    for _ in range(60):
        optimizer.zero_grad()
        y = net(x)
        net.backward(x, loss.backward(y, target))
        optimizer.step()
    assert loss(net(x), target) < 0.05 < before
    assert numpy(net(x)).argmax(1).tolist() == [0, 1, 1, 0]
