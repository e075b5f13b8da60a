"""Infinities, NaN, huge and tiny values in functions of one value and softmax; large arrays."""

import numpy as np
import pytest

from flambeau import kernels, nn

inf, nan = np.inf, np.nan


def place(device):
    return "cpu" if device in ("reference", "cpu") else device


def on(device, x):
    return kernels.to(x, place(device))


def numpy(x):
    return kernels.of(x).numpy(x)


def apply(module, device, values, dtype="f4"):
    """(y, dx for dy = 1) of a module at some values."""
    x = on(device, np.array(values, dtype))
    dy = on(device, np.ones(x.shape, dtype))
    return numpy(module(x)), numpy(module.backward(x, dy))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("text", "values", "expected", "slopes"),
    [
        ("Sigmoid()", [-inf, -1e4, 0, 1e4, inf], [0, 0, 0.5, 1, 1], [0, 0, 0.25, 0, 0]),
        ("Tanh()", [-inf, -1e4, 0, 1e4, inf], [-1, -1, 0, 1, 1], [0, 0, 1, 0, 0]),
        ("ELU()", [-inf, -1e4, 0, 1e4, inf], [-1, -1, 0, 1e4, inf], [0, 0, 1, 1, 1]),
        ("Softplus()", [-inf, -1e4, 1e4, inf], [0, 0, 1e4, inf], [0, 0, 1, 1]),
        ("ReLU6()", [-inf, 0, 6, inf], [0, 0, 6, 6], [0, 0, 0, 0]),
        ("ReLU()", [-inf, 0, inf], [0, 0, inf], [0, 0, 1]),
        ("Power(0.5)", [-inf, -1, 4, inf], [nan, nan, 2, inf], [0, nan, 0.25, 0]),
        ("Power(1.5)", [-inf, -1, 4, inf], [inf, nan, 8, inf], [nan, nan, 3, inf]),
        ("LeakyReLU(0.5)", [-inf, 0, inf], [-inf, 0, inf], [0.5, 0.5, 1]),
        ("PReLU()", [-inf, 0, inf], [-inf, 0, inf], [0.25, 0.25, 1]),
        ("GELU()", [-inf, -1e4, 0, 1e4, inf], [0, 0, 0, 1e4, inf], [0, 0, 0.5, 1, 1]),
        ("GELU('tanh')", [-inf, -1e4, 0, 1e4, inf], [0, 0, 0, 1e4, inf], [0, 0, 0.5, 1, 1]),
        ("SiLU()", [-inf, -1e5, 0, 1e5, inf], [0, 0, 0, 1e5, inf], [0, 0, 0.5, 1, 1]),
        ("Mish()", [-inf, -1e5, 0, 1e5, inf], [0, 0, 0, 1e5, inf], [0, 0, 0.6, 1, 1]),
        ("Hardsigmoid()", [-inf, -3, 0, 3, inf], [0, 0, 0.5, 1, 1], [0, 0, 1 / 6, 0, 0]),
        ("Hardswish()", [-inf, -3, 0, 3, inf], [0, 0, 0, 3, inf], [0, 0, 0.5, 1, 1]),
        ("Softsign()", [-inf, -1, 0, 1, inf], [-1, -0.5, 0, 0.5, 1], [0, 0.25, 1, 0.25, 0]),
        ("LogSigmoid()", [-inf, -1e4, 1e4, inf], [-inf, -1e4, 0, 0], [1, 1, 0, 0]),
        ("Hardtanh()", [-inf, -1, 0, 1, inf], [-1, -1, 0, 1, 1], [0, 0, 1, 0, 0]),
        ("Tanhshrink()", [-inf, 0, 1e4, inf], [-inf, 0, 9999, inf], [1, 0, 1, 1]),
        ("Softshrink()", [-inf, -0.5, 0.5, inf], [-inf, 0, 0, inf], [1, 0, 0, 1]),
        ("Hardshrink()", [-inf, -0.5, 0.5, inf], [-inf, 0, 0, inf], [1, 0, 0, 1]),
        ("Threshold(0.5, 9)", [-inf, 0.5, 1, inf], [9, 9, 1, inf], [0, 0, 1, 1]),
        ("CELU(2)", [-inf, -1e4, 0, inf], [-2, -2, 0, inf], [0, 0, 1, 1]),
        ("SELU()", [-inf, inf], [-1.7580993408473766, inf], [0, 1.0507009873554805]),
        ("Exp()", [-inf, -1e4, 0, 1e4, inf], [0, 0, 1, inf, inf], [0, 0, 1, inf, inf]),
        ("Log()", [0, 1, inf], [-inf, 0, inf], [inf, 1, 0]),
        ("Abs()", [-inf, 0, inf], [inf, 0, inf], [-1, 0, 1]),
        ("Power(2)", [-inf, -3, 0], [inf, 9, 0], [-inf, -6, 0]),
        ("Power(0.5)", [0, 4, inf], [0, 2, inf], [inf, 0.25, 0]),
    ],
)
def test_functions_of_one_value_reach_their_limits(text, values, expected, slopes, dtype, device):
    module = eval(text, vars(nn)).astype(dtype).to(place(device))
    y, dx = apply(module, device, values, dtype)
    np.testing.assert_allclose(y, np.array(expected, dtype), rtol=1e-6)
    np.testing.assert_allclose(dx, np.array(slopes, dtype), rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    "ReLU() ReLU6() Clamp(-1,1) LeakyReLU() PReLU() ELU() Sigmoid() Tanh() Softplus() Exp() Abs() "
    "Power(2) Affine(2) GELU() GELU('tanh') SiLU() Mish() Hardsigmoid() Hardswish() Softsign() "
    "LogSigmoid() Hardtanh() Tanhshrink() Softshrink() Hardshrink() Threshold(0,1) CELU() "
    "SELU()".split(),
)
def test_nan_stays_nan(text, device):
    module = eval(text, vars(nn)).to(place(device))
    y = numpy(module(on(device, np.array([1, nan, 2], "f4"))))
    assert np.isnan(y).tolist() == [False, True, False]


@pytest.mark.parametrize("layout", [(0, 1), (1, 0)], ids=["last axis", "first axis"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_softmax_of_rows_with_infinities_is_that_of_pytorch(layout, dtype, device):
    rows = [[0, -inf, 0], [-inf, -inf, -inf], [inf, 0, 0], [nan, 0, 0], [1e4, 0, -1e4]]
    ones = [nan] * 3
    expected = [[0.5, 0, 0.5], ones, ones, ones, [1, 0, 0]]
    logs = [[np.log(0.5), -inf, np.log(0.5)], ones, ones, ones, [0, -1e4, -2e4]]
    logs[2] = [nan, -inf, -inf]
    x = on(device, np.ascontiguousarray(np.array(rows, dtype).transpose(layout)))
    y = numpy(nn.Softmax(layout[1])(x)).transpose(layout)
    np.testing.assert_allclose(y, np.array(expected, dtype), rtol=1e-6)
    y = numpy(nn.LogSoftmax(layout[1])(x)).transpose(layout)
    kept = [0, 1, 3, 4]  # a row with ∞ gives NaN at least there
    np.testing.assert_allclose(y[kept], np.array(logs, dtype)[kept], rtol=1e-6)
    assert np.isnan(y[2, 0])


@pytest.mark.torch
@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_pytorch_says_the_same_of_infinities(name, device):
    import torch

    values = np.array([[0, -inf, 0], [-inf, -inf, -inf], [nan, 0, 0], [1e4, 0, -1e4]], "f4")
    expected = getattr(torch.nn, name)(1)(torch.tensor(values)).numpy()
    np.testing.assert_allclose(numpy(getattr(nn, name)(1)(on(device, values))), expected, rtol=1e-6)


def exact_elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.mark.parametrize(
    ("name", "options", "exact", "bound"),
    [
        ("exp", (), np.exp, 1.1),
        ("tanh", (), np.tanh, 2.5),
        ("sigmoid", (), lambda x: 1 / (1 + np.exp(-x)), 2.5),
        ("softplus", (1.0,), lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), 2.9),
        ("elu", (1.0,), exact_elu, 1.0),
    ],
)
def test_functions_in_c_err_by_no_more_units_in_the_last_place(name, options, exact, bound):
    every = np.arange(0, 2**32, 2221, dtype=np.uint64).astype(np.uint32).view("f4")
    usual = np.linspace(-20, 20, 2_000_001).astype("f4")  # where these functions are not flat
    x = np.concatenate([every[np.isfinite(every)], usual, np.array([0.0, -0.0], "f4")])
    with kernels.use("cpu") as k, np.errstate(over="ignore", under="ignore"):
        y, true = getattr(k, name)(x, *options), exact(x.astype("f8"))
        nearest = true.astype("f4")
    finite = np.isfinite(nearest)
    np.testing.assert_array_equal(y[~finite], nearest[~finite])
    unit = np.spacing(np.abs(nearest[finite])).astype("f8")
    assert (np.abs(y[finite] - true[finite]) / unit).max() < bound


LARGE = [
    ("relu", "x", ()),
    ("clamp", "x", (-0.5, 0.5)),
    ("leaky_relu", "x", (0.1,)),
    ("elu", "x", (1.0,)),
    ("sigmoid", "x", ()),
    ("tanh", "x", ()),
    ("softplus", "x", (2.0,)),
    ("exp", "x", ()),
    ("abs", "x", ()),
    ("power", "x", (2.0,)),
    ("softmax", "x", (1,)),
    ("softmax", "x", (-1,)),
    ("log_softmax", "x", (0,)),
    ("dropout", "x", (0.3, 5, 9)),
    ("affine", "x", (2.0, 1.0)),
    ("relu_backward", "xd", ()),
    ("clamp_backward", "xd", (-0.5, 0.5)),
    ("leaky_relu_backward", "xd", (0.1,)),
    ("elu_backward", "xd", (1.0,)),
    ("sigmoid_backward", "xd", ()),
    ("tanh_backward", "xd", ()),
    ("softplus_backward", "xd", (2.0,)),
    ("abs_backward", "xd", ()),
    ("power_backward", "xd", (2.0,)),
    ("softmax_backward", "xd", (-1,)),
    ("log_softmax_backward", "xd", (1,)),
]


@pytest.mark.parametrize(("name", "arrays", "options"), LARGE)
def test_arrays_that_are_shared_among_threads_agree_with_the_reference(name, arrays, options):
    generator = np.random.default_rng(1)
    xs = [generator.normal(size=(3, 90, 101)).astype("f4") for _ in arrays]
    with kernels.use("reference") as k:
        expected = getattr(k, name)(*xs, *options)
    with kernels.use("cpu") as k:
        got, again = (getattr(k, name)(*xs, *options) for _ in range(2))
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)
    assert (got == again).all()


def test_sums_over_channels_of_large_arrays_agree_with_the_reference():
    generator = np.random.default_rng(1)
    x, dy = (generator.normal(size=(3, 7, 40, 41)).astype("f4") for _ in range(2))
    w = generator.normal(size=7).astype("f4")
    results = []
    for package in ("reference", "cpu"):
        with kernels.use(package) as k:
            dw, db, ds, d1 = (np.ones(n, "f4") for n in (7, 7, 7, 1))
            dx = k.channel_scale_backward(x, dy, w, dw, db, True)
            slopes = k.prelu_backward(x, dy, w, ds, True), k.prelu_backward(x, dy, w[:1], d1, True)
            results.append([dx, dw, db, ds, d1, *slopes])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


def test_large_logits_keep_the_logarithm_of_their_number(device):
    """1e6 + ln 2 would be rounded to a multiple of 1/16."""
    x = np.full((1, 2), 1e6, "f4")
    y, _ = apply(nn.LogSoftmax(1), device, x)
    np.testing.assert_allclose(y, [[-np.log(2)] * 2], rtol=1e-6)
    loss, target = nn.CrossEntropyLoss(), np.array([1])
    np.testing.assert_allclose(loss(on(device, x), target), np.log(2), rtol=1e-6)
    dx = numpy(loss.backward(on(device, x), target))
    np.testing.assert_allclose(dx, [[0.5, -0.5]], rtol=1e-6)
