"""Batch normalisation as one step with sums, a ReLU and pooling, and sums of channels: kernels."""

import numpy as np
import pytest

from flambeau import kernels
from flambeau.kernels import reference

LAYOUTS = "contiguous", "last", "part"
# the last two: more channels than go together, of which some and all fill vectors of 16
SHAPES = (2, 16, 5, 7), (1, 12, 3, 3), (3, 64, 1, 2), (2, 264, 9, 8), (2, 272, 9, 8)


def images(shape, seed, dtype="f4", layout="contiguous"):
    """Normal numbers as (n, c, h, w) in an order of memory."""
    x = np.random.default_rng(seed).normal(size=shape).astype(dtype)
    if layout == "contiguous":
        return x
    n, c, h, w = shape
    wide = np.empty((n, h, w, c + 8 * (layout == "part")), dtype)
    wide[..., :c] = x.transpose(0, 2, 3, 1)
    return wide[..., :c].transpose(0, 3, 1, 2)


def copies(*arrays):
    return [a if a is None else kernels.of(a).copy(a) for a in arrays]


def both(k, arrays, parameters, running, want_dx):
    """Forward and backward by a package of kernels; everything that comes out."""
    x, other, dy = arrays
    w, b, dw, db = copies(*parameters)
    mean, var = copies(*running)
    y, saved = k.batch_norm_relu(x, other, w, b, mean, var, 0.1, 1e-5)
    options = saved, want_dx, other is not None
    found = k.batch_norm_relu_backward(x, y, dy, w, b, dw, db, *options)
    return [y, *saved[:2], mean, var, dw, db, *found]


def close(found, expected, dtype):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            tolerance = 2e-5 if dtype == "f4" else 1e-11
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernels_agree_with_the_reference(shape, layout, dtype):
    c, draw = shape[1], np.random.default_rng(5)
    x, other, dy = (images(shape, seed, dtype, layout) for seed in range(3))
    w, b, dw, db, mean, var = (draw.normal(size=c).astype(dtype) for _ in range(6))
    var = abs(var)
    for added in (None, other):
        for parameters in (w, b, dw, db), (None, None, None, None), (w, None, None, db):
            for want_dx in (True, False):
                arguments = (x, added, dy), parameters, (mean, var), want_dx
                expected = both(reference, *arguments)
                close(both(kernels.of(x), *arguments), expected, dtype)
    running = None, None
    arguments = (x, other, dy), (w, b, dw, db), running, True
    close(both(kernels.of(x), *arguments), both(reference, *arguments), dtype)


def both_of_a_pair(k, arrays, parameters, running, wanted):
    """The same of two that are normalised and added."""
    x, other, dy = arrays
    ws, bs, dws, dbs = (copies(*two) for two in zip(*parameters, strict=True))
    running = [copies(*two) for two in running]
    norms = [
        (w, b, *two, 0.1, eps) for w, b, two, eps in zip(ws, bs, running, (1e-5, 1e-3), strict=True)
    ]
    y, saved = k.batch_norm_pair_relu(x, other, *norms)
    learned = list(zip(ws, dws, dbs, wanted, strict=True))
    found = k.batch_norm_pair_relu_backward(x, other, y, dy, *learned, saved)
    return [y, *saved[:4], *running[0], *running[1], *dws, *dbs, *found]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_kernels_of_two_that_are_added_agree_with_the_reference(shape, layout, dtype):
    c, draw = shape[1], np.random.default_rng(5)
    arrays = [images(shape, seed, dtype, layout) for seed in range(3)]
    one, two = (list(draw.normal(size=(4, c)).astype(dtype)) for _ in range(2))
    running = [list(abs(draw.normal(size=(2, c))).astype(dtype)) for _ in range(2)]
    nothing = [None] * 4
    for parameters in (one, two), (nothing, two), (one, [two[0], None, None, two[3]]):
        for wanted in (True, True), (False, True), (True, False), (False, False):
            arguments = arrays, parameters, running, wanted
            expected = both_of_a_pair(reference, *arguments)
            close(both_of_a_pair(kernels.of(arrays[0]), *arguments), expected, dtype)
    arguments = arrays, (one, two), [[None] * 2] * 2, (True, True)
    expected = both_of_a_pair(reference, *arguments)
    close(both_of_a_pair(kernels.of(arrays[0]), *arguments), expected, dtype)


def test_two_that_are_too_large_for_the_caches_agree_with_the_reference():
    arrays = [images((4, 64, 131, 129), seed, "f4", "last") for seed in range(3)]
    one, two = np.random.default_rng(5).uniform(0.5, 1, (2, 4, 64)).astype("f4")
    running = np.random.default_rng(6).uniform(0.5, 1, (2, 2, 64)).astype("f4")
    arguments = arrays, (one, two), running, (True, True)
    pairs = both_of_a_pair(kernels.of(arrays[0]), *arguments), both_of_a_pair(reference, *arguments)
    for a, e in zip(*pairs, strict=True):
        assert np.count_nonzero(~np.isclose(a, e, rtol=1e-3, atol=1e-4)) <= 4


POOLS = [  # kernel, stride, padding, dilation, ceil
    ((3, 3), (2, 2), (1, 1), (1, 1), False),
    ((2, 2), (2, 2), (0, 0), (1, 1), True),
    ((3, 2), (1, 3), (1, 1), (1, 1), True),
    ((2, 3), (4, 5), (1, 0), (1, 1), False),
    ((2, 2), (2, 1), (1, 1), (2, 3), False),  # taps apart
]


def pooled(k, x, dy, parameters, running, pool, want):
    """The same of one whose greatest of each window are taken."""
    w, b, dw, db = copies(*parameters)
    running = copies(*running)
    y, saved = k.batch_norm_pool_relu(x, (w, b, *running, 0.1, 1e-5), pool)
    learned = w, dw, db, want
    dx = k.batch_norm_pool_relu_backward(
        x, y, dy[..., : y.shape[2], : y.shape[3]], learned, pool, saved
    )
    return [y, *saved[:2], *running, dw, db, dx]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES[:2], (3, 64, 2, 2), (2, 48, 19, 18), (2, 272, 5, 3)])
@pytest.mark.parametrize("pool", POOLS)
def test_pooled_normalisations_agree_with_the_reference(pool, shape, layout, dtype):
    c, draw = shape[1], np.random.default_rng(5)
    n, c, h, w = shape
    x, dy = images(shape, 1, dtype, layout), images((n, c, h + 3, w + 3), 2, dtype, layout)
    parameters = list(draw.normal(size=(4, c)).astype(dtype))
    running = list(abs(draw.normal(size=(2, c))).astype(dtype))
    for given in parameters, [None] * 4, [parameters[0], None, None, parameters[3]]:
        for want in True, False:
            arguments = x, dy, given, running, pool, want
            expected = pooled(reference, *arguments)
            close(pooled(kernels.of(x), *arguments), expected, dtype)
    arguments = x, dy, parameters, [None] * 2, pool, True
    close(pooled(kernels.of(x), *arguments), pooled(reference, *arguments), dtype)


def test_pooled_normalisations_of_large_images_agree_with_the_reference():
    x, dy = images((4, 64, 131, 129), 1, "f4", "last"), images((4, 64, 66, 65), 2, "f4", "last")
    parameters = list(np.random.default_rng(5).uniform(0.5, 1, (4, 64)).astype("f4"))
    arguments = x, dy, parameters, (None, None), POOLS[0], True
    pairs = pooled(kernels.of(x), *arguments), pooled(reference, *arguments)
    for a, e in zip(
        *pairs, strict=True
    ):  # rounding may make another of two neighbours the greatest
        assert a is e is None or np.count_nonzero(~np.isclose(a, e, rtol=1e-3, atol=1e-4)) <= 16


def test_pooled_normalisations_of_numbers_that_are_none():
    x = images((2, 16, 6, 6), 1, "f4", "last")
    x[0, 3, 2, 2], x[1, 5, 0, 0] = np.nan, np.inf
    dy = images((2, 16, 3, 3), 2, "f4", "last")
    arguments = x, dy, [None] * 4, (None, None), POOLS[0], True
    with np.errstate(invalid="ignore"):
        expected = pooled(reference, *arguments)
    for a, e in zip(pooled(kernels.of(x), *arguments), expected, strict=True):
        assert a is e is None or np.allclose(a, e, rtol=1e-4, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("added", [True, False])
def test_what_is_too_large_for_the_caches_agrees_with_the_reference(added):
    x, other, dy = (images((4, 64, 131, 129), seed, "f4", "last") for seed in range(3))
    w, b, dw, db, mean, var = np.random.default_rng(5).uniform(0.5, 1, (6, 64)).astype("f4")
    arguments = (x, other if added else None, dy), (w, b, dw, db), (mean, var), True
    for a, e in zip(both(kernels.of(x), *arguments), both(reference, *arguments), strict=True):
        if a is not None:  # rounding may lead a few of so many numbers to the other side of 0
            assert np.count_nonzero(~np.isclose(a, e, rtol=1e-3, atol=1e-4)) <= 4


def test_the_host_device_agrees_with_the_reference():
    x, other, dy = (images((2, 6, 4, 3), seed) for seed in range(3))
    w, b = images((6, 1, 1, 1), 3).ravel(), images((6, 1, 1, 1), 4).ravel()
    mean, var = np.zeros(6, "f4"), np.ones(6, "f4")
    arguments = (x, other, dy), (w, b, b.copy(), w.copy()), (mean, var), True
    moved = [[kernels.to(a, "host") for a in part] for part in arguments[:3]]
    x, other, dy = moved[0]
    w, b, dw, db = moved[1]
    k = kernels.of(x)
    y, saved = k.batch_norm_relu(x, other, w, b, *moved[2], 0.1, 1e-5)
    found = k.batch_norm_relu_backward(x, y, dy, w, b, dw, db, saved, True, True)
    found = [y, *saved, *moved[2], dw, db, *found]
    close([kernels.to(a, "cpu") for a in found], both(reference, *arguments), "f4")


def test_the_host_device_agrees_with_the_reference_on_two_that_are_added():
    arrays = [images((2, 6, 4, 3), seed) for seed in range(3)]
    one, two = ([images((6, 1, 1, 1), seed + i).ravel() for i in range(4)] for seed in (3, 7))
    running = [[np.zeros(6, "f4"), np.ones(6, "f4")] for _ in range(2)]
    arguments = arrays, (one, two), running
    moved = spread(lambda a: kernels.to(a, "host"), arguments)
    for wanted in (True, True), (True, False), (False, True):
        found = both_of_a_pair(kernels.of(moved[0][0]), *moved, wanted)
        expected = both_of_a_pair(reference, *arguments, wanted)
        close(spread(lambda a: kernels.to(a, "cpu"), found), expected, "f4")


def test_the_host_device_agrees_with_the_reference_on_pooled_normalisations():
    x, dy = images((2, 6, 5, 4), 1), images((2, 6, 5, 4), 2)
    parameters = [images((6, 1, 1, 1), seed).ravel() for seed in range(4)]
    running = [np.zeros(6, "f4"), np.ones(6, "f4")]
    moved = spread(
        lambda a: kernels.to(a, "host"), [x, dy[..., :3, :2].copy(), parameters, running]
    )
    k, (mx, mdy, (w, b, dw, db), run) = kernels.of(moved[0]), moved
    y, saved = k.batch_norm_pool_relu(mx, (w, b, *run, 0.1, 1e-5), POOLS[0])
    dx = k.batch_norm_pool_relu_backward(mx, y, mdy, (w, dw, db, True), POOLS[0], saved)
    found = spread(lambda a: kernels.to(a, "cpu"), [y, *saved[:2], *run, dw, db, dx])
    close(found, pooled(reference, x, dy, parameters, running, POOLS[0], True), "f4")


def spread(function, x):
    """function of each array in lists and tuples."""
    if isinstance(x, (list, tuple)):
        return [spread(function, v) for v in x]
    return x if x is None else function(x)


@pytest.mark.parametrize("c", [1, 3, 5, 16, 17, 20, 40, 72, 100, 260, 300])
@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 31, 29)])
def test_sums_of_any_number_of_innermost_channels(c, shape):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    n, h, w = shape
    wide = images((n, c, h, w), 1, "f8", "last") * 2 + np.arange(c)[:, None, None]  # off centre
    x, dy = wide.astype("f4"), images((n, c, h, w), 2, "f4", "last")
    weight, bias = np.linspace(1, 2, c, dtype="f4"), np.linspace(0, 1, c, dtype="f4")
    slope = np.full(max(c, 2), 0.25, "f4")[:c]
    found = []
    for package, dtype in ((cpu, "f4"), (reference, "f8")):
        x, dy, weight, bias, slope = (a.astype(dtype) for a in (x, dy, weight, bias, slope))
        running = np.zeros(c, dtype), np.ones(c, dtype)
        y, mean, inv_std = package.batch_norm(x, weight, bias, *running, 0.1, 1e-5, True)
        dw, db, slopes = (np.zeros(c, dtype) for _ in range(3))
        options = weight, dw, db, mean, inv_std, True, True
        dx = package.batch_norm_backward(x, dy, *options)
        package.prelu_backward(x - x.mean(), dy, slope, slopes, False)
        found.append((y, mean, inv_std, *running, dx, dw, db, slopes))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5 * max(1, abs(b).max()))


def test_the_statistics_are_right_where_the_first_rows_are_far_from_the_others():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x = images((4, 32, 40, 40), 3, "f8", "last")
    x[0, :, 0, :8] = 3e4
    x[1] += 100
    running = np.zeros(32, "f4"), np.ones(32, "f4")
    x = x.astype("f4")
    _, mean, inv_std = cpu.batch_norm(x, None, None, *running, 0.1, 1e-5, True)
    exact = x.astype("f8")
    assert (abs(mean - exact.mean((0, 2, 3))) * inv_std).max() < 1e-6  # of a standard deviation
    np.testing.assert_allclose(1 / inv_std**2, exact.var((0, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("c", [3, 40])
def test_gradients_that_are_not_finite_count_for_a_slope_only_where_x_is_negative(c):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, dy = images((2, c, 5, 7), 1, "f4", "last"), images((2, c, 5, 7), 2, "f4", "last")
    dy[0, 0, 0, :3] = np.inf, -np.inf, np.nan
    x[0, 0, 0, :3] = 2, np.inf, 1
    slope, found = np.full(c, 0.25, "f4"), []
    for package in cpu, reference:
        found.append(np.zeros(c, "f4"))
        package.prelu_backward(x, dy, slope, found[-1], False)
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)
    assert np.isfinite(found[0]).all()
