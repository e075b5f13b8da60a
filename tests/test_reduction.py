"""Reductions over one axis: fixed order, small error, NaN, ties, PyTorch."""

import numpy as np
import pytest

from flambeau import kernels, nn


def on(device, x):
    return kernels.to(x, "cpu" if device in ("reference", "cpu") else device)


def numpy(x):
    return kernels.of(x).numpy(x)


@pytest.mark.parametrize(("shape", "axis"), [((3, 70_001), 1), ((70_001, 3), 0), ((2, 9001, 5), 1)])
def test_the_error_of_a_sum_does_not_grow_with_its_length(shape, axis):
    x = np.random.default_rng(1).uniform(1, 2, shape).astype("f4")
    with kernels.use("cpu"):
        y = nn.SumOver(axis)(x)
    np.testing.assert_allclose(y, x.sum(axis, dtype="f8"), rtol=5e-7)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_sum_is_the_same_bits_on_any_number_of_threads(axis):
    x = np.random.default_rng(1).normal(size=(40, 70, 300)).astype("f4")
    before, results = kernels.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            kernels.set_num_threads(threads)
            with kernels.use("cpu"):
                results.append(nn.SumOver(axis)(x))
    finally:
        kernels.set_num_threads(before)
    assert all((y == results[0]).all() for y in results)
    np.testing.assert_allclose(results[0], x.sum(axis, dtype="f8"), rtol=0, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("text", ["SumOver", "MeanOver", "MaxOver", "MinOver"])
def test_large_arrays_agree_with_the_reference(text, axis):
    x = np.random.default_rng(1).normal(size=(40, 7, 300)).astype("f4")
    results = []
    for package in ("reference", "cpu"):
        with kernels.use(package):
            module = getattr(nn, text)(axis)
            y = module(x)
            results.append((y, module.backward(x, y)))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("text", "extreme"), [("MaxOver", 3), ("MinOver", -3)])
def test_the_first_of_equals_gets_the_gradient(text, extreme, device):
    x = on(device, np.array([[1, extreme, extreme], [extreme, 0, 0]], "f4"))
    module = getattr(nn, text)(1)
    assert numpy(module(x)).tolist() == [extreme, extreme]
    dx = module.backward(x, on(device, np.array([5, 7], "f4")))
    assert numpy(dx).tolist() == [[0, 5, 0], [7, 0, 0]]


@pytest.mark.parametrize("text", ["SumOver", "MeanOver", "MaxOver", "MinOver"])
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_stays_nan_in_its_row(text, axis, device):
    x = np.array([[1, np.nan, 2], [3, 4, 5], [np.nan, 9, -9]], "f4")
    y = numpy(getattr(nn, text)(axis)(on(device, x)))
    assert np.isnan(y).tolist() == np.isnan(x).any(axis).tolist()


@pytest.mark.parametrize("text", ["MaxOver", "MinOver"])
def test_infinities_are_extremes(text, device):
    x = np.array([[-np.inf, 1, np.inf], [-np.inf] * 3, [np.inf] * 3], "f4")
    y = numpy(getattr(nn, text)(1)(on(device, x)))
    assert y.tolist() == (x.max(1) if text == "MaxOver" else x.min(1)).tolist()


@pytest.mark.torch
@pytest.mark.parametrize("keepdim", [True, False])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    ("text", "name"),
    [("SumOver", "sum"), ("MeanOver", "mean"), ("MaxOver", "amax"), ("MinOver", "amin")],
)
def test_values_and_gradients_are_those_of_pytorch(text, name, axis, keepdim, device):
    import torch

    x = np.random.default_rng(1).normal(size=(3, 4, 5))
    v = torch.from_numpy(x).requires_grad_()
    theirs = getattr(v, name)(axis, keepdim=keepdim)
    dy = np.random.default_rng(2).normal(size=theirs.shape)
    theirs.backward(torch.from_numpy(dy))
    module = getattr(nn, text)(axis, keepdim)
    y = numpy(module(on(device, x)))
    dx = numpy(module.backward(on(device, x), on(device, dy)))
    assert y.shape == tuple(theirs.shape)
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dx, v.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("text", ["MaxOver", "MinOver"])
def test_extremes_of_long_rows_agree_with_the_reference(text, axis, dtype):
    x = np.random.default_rng(1).integers(-9, 9, (5, 301)).astype(dtype)  # with many equals
    x[1, [207, 250]], x[2, 0], x[3, 300] = np.nan, np.nan, np.inf
    x = np.ascontiguousarray(x if axis == 1 else x.T)
    dy, results = np.arange(1, 6).astype(dtype), []
    for package in ("reference", "cpu"):
        with kernels.use(package):
            module = getattr(nn, text)(axis)
            results.append((module(x), module.backward(x, dy)))
    for expected, got in zip(*results, strict=True):
        np.testing.assert_array_equal(got, expected)
