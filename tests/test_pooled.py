"""Convolutions that pool their results."""

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.kernels import reference

from test_modules import close, flat, move, put
from test_optimize import kinds

HALVES = (2, 2), (2, 2), (0, 0), (1, 1)
BOUNDS = [(None, None), (0.0, None), (-0.5, 6.0)]


def draw(*shape, dtype="f4"):
    return np.random.default_rng(2).normal(size=shape).astype(dtype)


SHAPES = [  # x, number of results, padding
    ((1, 32, 24, 36), 32, (1, 1)),
    ((2, 37, 13, 17), 45, (0, 1)),
    ((3, 16, 5, 3), 17, (2, 2)),
    ((1, 64, 14, 27), 80, (1, 1)),
    ((2, 24, 1, 9), 33, (1, 0)),
]


@pytest.mark.parametrize(
    "name", ["patches", "direct", "winograd2", "winograd4", "winograd6", "winograd7"]
)
@pytest.mark.parametrize("shape, k, padding", SHAPES)
@pytest.mark.parametrize("ceil", [False, True])
def test_pooled_results_are_the_greatest_of_those_that_are_not(name, shape, k, padding, ceil):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    cpu = kernels.package("cpu")
    x, w, b, options = draw(*shape), draw(k, shape[1], 3, 3), draw(k), ((1, 1), padding, (1, 1), 1)
    x[0, 3, -1, 2] = np.nan
    with algorithm.use(name):
        for bounds in BOUNDS:
            whole = cpu.conv2d_fused(x, w, b, None, *bounds, *options)
            expected = reference.max_pool2d(whole, *HALVES, ceil, False)[0]
            y = cpu.conv2d_pooled(x, w, b, bounds, options, ceil)
            assert np.isnan(whole).any() and not np.isnan(whole).all()
            np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "weights, stride, padding, dilation, groups",
    [
        ((40, 24, 3, 3), (1, 1), (1, 1), (1, 1), 1),
        ((40, 24, 3, 3), (1, 1), (1, 2, 0, 3), (1, 1), 1),
        ((24, 12, 3, 2), (2, 1), (0, 1), (1, 2), 2),
        ((24, 1, 3, 3), (1, 1), (1, 1), (1, 1), 24),
    ],
)
def test_any_convolution_can_pool(device, weights, stride, padding, dilation, groups, bias, dtype):
    x, w, b = draw(2, 24, 9, 14, dtype=dtype), draw(*weights, dtype=dtype), None
    options = stride, padding, dilation, groups
    if bias:
        b = draw(len(w), dtype=dtype)
    where = "cpu" if device in ("reference", "cpu") else device
    arrays = [None if a is None else kernels.to(a, where) for a in (x, w, b)]
    for ceil in (False, True):
        whole = reference.conv2d_fused(x, w, b, None, 0.0, 9.0, *options)
        expected = reference.max_pool2d(whole, *HALVES, ceil, False)[0]
        y = kernels.of(arrays[0]).conv2d_pooled(*arrays, (0.0, 9.0), options, ceil)
        close(flat(y), [expected], 4e-5 if dtype == "f4" else 1e-12)


def test_memory_order_changes_nothing():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    wide, w, b = draw(2, 48, 18, 22), draw(40, 24, 3, 3), draw(40)
    x = wide[:, 12:36, 3:, :-2]
    last = np.ascontiguousarray(wide.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    options = (1, 1), (1, 1), (1, 1), 1
    expected = cpu.conv2d_pooled(x.copy(), w, b, (0.0, None), options, False)
    for view in (x, last[:, 12:36, 3:, :-2]):
        np.testing.assert_array_equal(
            cpu.conv2d_pooled(view, w, b, (0.0, None), options, False), expected
        )


@pytest.mark.parametrize("ceil", [False, True])
def test_pooling_behind_a_convolution_becomes_part_of_it(device, ceil):
    nn.seed(1)
    x = nngraph.inputs("x")
    h = nn.ReLU()(nn.Conv2d(3, 20, 3, padding=1)(x))
    h = nn.MaxPool2d(2, ceil_mode=ceil)(h, name="half")
    h = nn.MaxPool2d(2, 2)(nn.BatchNorm2d(9)(nn.Conv2d(20, 9, 3)(h)), name="quarter")
    net = nngraph.Graph(x, h, aliases={"inner": h}).eval()
    fast = nngraph.optimize(net)
    assert kinds(fast) == ["PooledConv2d", "PooledConv2d"]
    assert fast.values() == ["x", "half", "quarter", "inner"]
    data = draw(2, 3, 15, 22)
    expected, values = net(data, taps=["half"])
    put(fast, device)
    got, found = fast(move(data, device), taps=["half"])
    close(flat(got), [expected], 1e-5)
    close(flat(found["half"]), [values["half"]], 1e-5)


def test_what_else_stands_before_a_pooling_stays_before_it():
    x = nngraph.inputs("x")
    used = nn.ReLU()(nn.Conv2d(3, 4, 3)(x))
    halves = nn.MaxPool2d(2)
    assert "PooledConv2d" not in kinds(nngraph.optimize(nngraph.Graph(x, [halves(used), used])))
    total = nn.Conv2d(3, 3, 3, padding=1)(x) + x
    assert "PooledConv2d" not in kinds(nngraph.optimize(nngraph.Graph(x, halves(total))))
    for conv in nn.Conv2d(3, 4, 3, 2), nn.Conv2d(3, 4, 5), nn.Conv2d(4, 4, 3, groups=2):
        fast = nngraph.optimize(nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2)))
        assert kinds(fast) == ["FusedConv2d", "MaxPool2d"]
    for pool in nn.MaxPool2d(3, 2), nn.MaxPool2d(2, 1), nn.MaxPool2d(2, padding=1):
        fast = nngraph.optimize(nn.Sequential(nn.Conv2d(3, 4, 3), pool))
        assert kinds(fast) == ["FusedConv2d", "MaxPool2d"]


def test_images_too_small_and_parts_that_do_not_fit_are_refused():
    conv, pool = nn.FusedConv2d(3, 4, (3, 3)), nn.MaxPool2d(2)
    net = nn.PooledConv2d(conv, pool)
    for size in (4, 3), (2, 9):
        with pytest.raises(ValueError, match="room for a window of the convolution's results"):
            net(draw(1, 3, *size))
    assert nn.PooledConv2d(conv, nn.MaxPool2d(2, ceil_mode=True))(draw(1, 3, 3, 3)).size == 4
    with pytest.raises(ValueError, match=r"x must be \(n, 3, h, w\)"):
        net(draw(1, 4, 9, 9))
    with pytest.raises(ValueError, match="for inference only"):
        net.backward(draw(1, 3, 4, 4), draw(1, 4, 1, 1))
    with pytest.raises(ValueError, match="the convolution must add nothing"):
        nn.PooledConv2d(nn.FusedConv2d(3, 4, (3, 3), adds=True), pool)
    with pytest.raises(ValueError, match="pool must be a MaxPool2d of windows of 2 x 2"):
        nn.PooledConv2d(conv, nn.MaxPool2d(3, 2))


def test_pooled_convolutions_are_saved_and_recorded(tmp_path):
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 4, 3))
    fast = nngraph.optimize(net.eval())
    x = draw(2, 3, 14, 17)
    expected = fast(x)
    fast.save(tmp_path / "fast.h5")
    np.testing.assert_array_equal(nn.load(tmp_path / "fast.h5")(x), expected)
    for _ in range(3):
        np.testing.assert_array_equal(fast(x), expected)
    assert kinds(fast) == ["PooledConv2d", "FusedConv2d"]
    if kernels.of(x).__name__.endswith("cpu"):
        assert list(vars(fast)["_recordings"].made.values())[0] is not None


def test_a_pooled_convolution_is_one_row_of_a_profile():
    net = nn.Sequential(nn.Conv2d(24, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)).eval()
    (row,) = nn.profile(nngraph.optimize(net), draw(2, 24, 12, 9), repeats=1).rows
    assert (row.output, row.container) == ("(2, 16, 6, 4)", False)
    assert row.parameters == 24 * 16 * 9 + 16
    assert row.multiply_adds == 2 * 12 * 9 * 24 * 16 * 9
    assert row.algorithm == nn.profile(net, draw(2, 24, 12, 9), repeats=1).rows[0].algorithm
