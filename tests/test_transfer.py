"""Transfer functions by their kind: how exact they are, what they refuse, what PyTorch rounds."""

import math

import numpy as np
import pytest

from flambeau import kernels, nn
from flambeau.kernels.reference.transfer import KINDS

NORMAL = np.vectorize(lambda v: math.erfc(-v * math.sqrt(0.5)) / 2, otypes=["f8"])


def dense(count=200_001):
    """Floats from −20 to 20, and some of every size."""
    every = np.arange(0, 2**32, 80_021, dtype=np.uint64).astype(np.uint32).view("f4")
    return np.concatenate([np.linspace(-20, 20, count).astype("f4"), every[np.isfinite(every)]])


@pytest.mark.parametrize("package", ["reference", "cpu"])
def test_gelu_errs_by_no_more_than_two_units_in_the_last_place_of_x(package):
    x = dense()
    true = x.astype("f8") * NORMAL(x.astype("f8"))
    with kernels.use(package):
        y = nn.GELU()(x)
    unit = np.spacing(np.abs(x)).astype("f8")
    assert (np.abs(y - true) / unit).max() < 2


@pytest.mark.parametrize("package", ["reference", "cpu"])
def test_the_slope_of_gelu_errs_by_no_more_than_2e_7(package):
    x = dense()
    v = np.clip(x.astype("f8"), -100, 100)
    true = NORMAL(v) + v * np.exp(-v * v / 2) / math.sqrt(2 * math.pi)
    with kernels.use(package):
        dx = nn.GELU().backward(x, np.ones_like(x))
    assert np.abs(dx - true).max() < 2e-7


@pytest.mark.parametrize("kind", KINDS)
def test_float_kernels_in_c_follow_the_reference_in_float64_over_all_floats(kind):
    x = dense()
    x = x[np.abs(x) < 1e38]  # selu passes the greatest float
    dy = np.ones_like(x)
    with kernels.use("reference") as k:
        y = k.transfer(x.astype("f8"), kind, 0.7, 1.3)
        dx = k.transfer_backward(x.astype("f8"), dy.astype("f8"), kind, 0.7, 1.3)
    with kernels.use("cpu") as k:
        got, slope = k.transfer(x, kind, 0.7, 1.3), k.transfer_backward(x, dy, kind, 0.7, 1.3)
    np.testing.assert_allclose(got, y, rtol=3e-7, atol=1e-6)
    np.testing.assert_allclose(slope, dx, rtol=3e-7, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_that_are_shared_among_threads_agree_with_the_reference(kind):
    x, dy = np.random.default_rng(1).normal(size=(2, 3, 90, 101)).astype("f4")
    results = []
    for package in ("reference", "cpu", "cpu"):
        with kernels.use(package) as k:
            y, dx = k.transfer(x, kind, 0.3, 2.0), k.transfer_backward(x, dy, kind, 0.3, 2.0)
            results.append((y, dx))
    for expected, got, again in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-6)
        assert (got == again).all()


@pytest.mark.torch
@pytest.mark.parametrize("package", ["reference", "cpu"])
def test_hardsigmoid_is_that_of_pytorch_whose_slope_is_rounded_to_float32(package):
    import torch

    x = np.random.default_rng(1).normal(0, 3, 99)
    v = torch.from_numpy(x).requires_grad_()
    theirs = torch.nn.Hardsigmoid()(v)
    theirs.sum().backward()
    with kernels.use(package):
        y, dx = nn.Hardsigmoid()(x), nn.Hardsigmoid().backward(x, np.ones(99))
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx, v.grad.numpy(), rtol=1e-7)


@pytest.mark.parametrize(
    ("text", "must"),
    [
        ("GELU('erf')", r"GELU\('erf'\): approximate must be 'none' or 'tanh' — got 'erf'"),
        ("Softshrink(-1)", r"Softshrink\(-1\): lambd must be 0 or more — got -1"),
        ("Hardshrink(-1)", r"Hardshrink\(-1\): lambd must be 0 or more — got -1"),
        ("CELU(0)", r"CELU\(0\): alpha must be positive — got 0"),
        ("Hardtanh(1, 1)", r"Hardtanh\(1, 1\): min_val must be less than max_val"),
    ],
)
def test_options_without_meaning_are_refused(text, must):
    with pytest.raises(ValueError, match=must):
        eval(text, vars(nn))
