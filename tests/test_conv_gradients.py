"""Gradients of convolutions and transposed convolutions: what the table of cases does not say."""

import numpy as np
import pytest

from flambeau import kernels
from flambeau.kernels import reference

from test_conv import ERRORS, SHAPES, channels_last, draw


@pytest.mark.parametrize("stride, kernel", [(1, 1), (1, 3), (1, 5), (2, 3)])
@pytest.mark.parametrize("n, groups", [(2, 1), (2, 32), (0, 1)])
def test_a_gradient_of_before_is_added_to_the_bits_of_the_new_one(stride, kernel, n, groups):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w = draw(n, 32, 13, 12), draw(32, 32 // groups, kernel, kernel)
    options = (stride, stride), (kernel // 2, kernel // 2), (1, 1), groups
    dy = draw(*reference.conv2d(x, w, None, *options).shape)
    for order in np.copy, channels_last:
        alone = cpu.conv2d_backward(order(x), dy, w, None, None, None, *options, True)
        for other in order(x), np.copy(x)[..., ::-1]:
            before = other.copy()
            both = cpu.conv2d_backward(order(x), dy, w, None, None, other, *options, True)
            np.testing.assert_array_equal(both, alone + other)
            np.testing.assert_array_equal(other, before)
        assert cpu.conv2d_backward(x, dy, w, None, None, x, *options, False) is None


@pytest.mark.parametrize(
    "n, c, k, size, kernel, stride",
    [
        (2, 64, 64, 7, 1, 1),  # the sums are the gradient itself
        (8, 64, 64, 40, 1, 1),  # chunks with sums of their own
        (4, 3, 64, 64, 7, 2),  # the results are the lanes
        (2, 32, 48, 15, 3, 2),
        (2, 20, 17, 9, 3, 1),
    ],
)
def test_a_gradient_of_weights_may_replace_what_was_there(
    monkeypatch, n, c, k, size, kernel, stride
):
    conv_weight = pytest.importorskip("flambeau.kernels.cpu.conv_weight")
    x, grid = draw(n, c, size, size), (size + 2 * (kernel // 2) - kernel) // stride + 1
    dy, dw = draw(n, k, grid, grid), np.zeros((k, c, kernel, kernel), "f4")
    options = (stride, stride), (kernel // 2, kernel // 2), (1, 1)
    with kernels.package("cpu").conv_algorithm.use("direct"):
        conv_weight.add_weight_gradient(channels_last(x), channels_last(dy), dw, *options)
        call, replaced = conv_weight.native.call, np.full_like(dw, np.nan)

        def replacing(name, *args):
            return call(name, *args[:-1], False) if name == "conv_weight" else call(name, *args)

        monkeypatch.setattr(conv_weight.native, "call", replacing)
        conv_weight.add_weight_gradient(channels_last(x), channels_last(dy), replaced, *options)
    np.testing.assert_array_equal(replaced, dw)


@pytest.mark.parametrize("name", ["direct", "winograd2", "winograd4", "winograd6", "winograd7"])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("shape, k, padding", SHAPES)
def test_the_error_of_each_gradient_is_within_what_is_stated(name, last, shape, k, padding):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    cpu = kernels.package("cpu")
    x, w, options = draw(*shape), draw(k, shape[1], 3, 3), ((1, 1), padding, (1, 1), 1)
    dy = draw(*reference.conv2d(x, w, None, *options).shape)
    found = []
    for package, dtype in ((cpu, "f4"), (reference, "f8")):
        arrays, other = [a.astype(dtype) for a in (x, dy, w)], 3 * x[::-1].astype(dtype)
        if last and package is cpu:
            arrays[:2] = map(channels_last, arrays[:2])
        dw, db = np.ones(w.shape, dtype), np.ones(k, dtype)
        with algorithm.use(name):
            dx = package.conv2d_backward(*arrays, dw, db, other, *options, True)
        found.append((dx, dw, db))
    for a, b in zip(*found, strict=True):
        assert abs(a - b).max() / abs(b).max() < ERRORS[name]


@pytest.mark.parametrize("name", ["winograd2", "winograd4", "winograd6", "winograd7"])
@pytest.mark.parametrize("c, k", [(8, 16), (20, 19), (41, 50)])
def test_gradients_of_weights_over_many_tiles_are_the_same_by_any_threads(name, c, k):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    cpu, before, options = kernels.package("cpu"), kernels.get_num_threads(), ((1, 1),) * 3
    x, dy, found = draw(5, c, 61, 35), draw(5, k, 61, 35), []
    try:
        for threads in (1, 2, 3, 9):
            kernels.set_num_threads(threads)
            dw = np.zeros((k, c, 3, 3), "f4")
            with algorithm.use(name):
                cpu.conv2d_backward(x, dy, dw, dw, None, None, *options, 1, False)
            found.append(dw)
    finally:
        kernels.set_num_threads(before)
    exact = np.zeros(dw.shape)
    wide = x.astype("f8"), dy.astype("f8"), exact
    reference.conv2d_backward(*wide, exact, None, None, *options, 1, False)
    assert abs(found[0] - exact).max() / abs(exact).max() < ERRORS[name]
    assert all((dw == found[0]).all() for dw in found)


@pytest.mark.parametrize("weights, groups", [((30, 24, 3, 5), 1), ((40, 12, 2, 3), 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1), (3, 2)])
def test_gradients_in_channels_last_memory_agree_with_the_reference(
    weights, groups, stride, dilation
):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w, options = draw(2, 24, 13, 17), draw(*weights), (stride, (1, 2), dilation, groups)
    dy = draw(*reference.conv2d(x, w, None, *options).shape)
    found = []
    for package, order in ((cpu, channels_last), (cpu, np.copy), (reference, np.copy)):
        dw, db = np.zeros_like(w), np.zeros(len(w), "f4")
        other = order(x) * 2
        dx = package.conv2d_backward(order(x), order(dy), w, dw, db, other, *options, True)
        found.append((dx, dw, db))
    for got in found[:2]:
        for a, b in zip(got, found[2], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5 * abs(b).max())


@pytest.mark.parametrize(
    "shape, weights, stride, padding, more, dilation, groups",
    [
        (
            (2, 420, 7, 7),
            (420, 72, 3, 3),
            (2, 2),
            (1, 1),
            (1, 1),
            (1, 1),
            1,
        ),  # gathered, row by row
        ((3, 40, 6, 7), (40, 65, 1, 1), (2, 2), (0, 0), (1, 0), (1, 1), 1),  # most taps are missing
        ((2, 24, 5, 9), (24, 17, 5, 4), (2, 3), (1, 2), (0, 1), (1, 1), 1),
        ((2, 34, 9, 8), (34, 20, 3, 7), (1, 2), (1, 3), (0, 1), (1, 1), 2),
        ((1, 36, 1, 9), (36, 41, 3, 2), (4, 4), (1, 0), (0, 1), (2, 3), 1),  # some taps go nowhere
    ],
)
@pytest.mark.parametrize("order", [np.copy, channels_last])
def test_transposed_convolutions_of_any_stride_agree_with_the_reference(
    order, shape, weights, stride, padding, more, dilation, groups
):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w, b = draw(*shape), draw(*weights), draw(weights[1] * groups)
    for bias in (None, b):
        expected = reference.conv_transpose2d(x, w, bias, stride, padding, more, dilation, groups)
        found = cpu.conv_transpose2d(order(x), w, bias, stride, padding, more, dilation, groups)
        np.testing.assert_allclose(found, expected, atol=2e-5 * abs(expected).max())


@pytest.mark.parametrize(
    "shape, weights, stride, padding, expected",
    [
        ((1, 144, 20, 31), (200, 144, 1, 1), (1, 1), (0, 0), "parts"),  # of groups and panels
        ((2, 208, 12, 11), (40, 208, 1, 1), (2, 2), (0, 0), "images"),
        ((2, 48, 26, 19), (70, 48, 3, 3), (2, 1), (0, 0), "parts"),
        ((2, 80, 37, 41), (45, 80, 1, 1), (1, 1), (0, 0), "chunks"),
        ((1, 16, 80, 65), (6, 16, 1, 1), (1, 1), (0, 0), "chunks"),
        ((1, 20, 104, 101), (21, 20, 2, 2), (1, 1), (1, 2), "chunks"),
        ((1, 3, 201, 206), (17, 3, 7, 7), (2, 2), (3, 3), "chunks"),
        ((1, 3, 201, 206), (48, 3, 7, 7), (2, 2), (3, 3), "chunks turned"),
        ((5, 3, 43, 45), (32, 3, 3, 3), (1, 1), (0, 1), "chunks turned"),
        ((9, 80, 14, 13), (70, 80, 1, 1), (2, 2), (0, 0), "images"),  # of which strips have many
        ((2, 40, 31, 29), (33, 40, 3, 3), (2, 2), (1, 1), "padded"),
        ((2, 41, 9, 13), (3, 41, 1, 5), (1, 1), (0, 2), "padded images"),
        ((11, 45, 14, 13), (37, 45, 3, 3), (2, 2), (1, 1), "padded images"),
    ],
)
@pytest.mark.parametrize("order", [np.copy, channels_last])
def test_gradients_of_weights_agree_with_the_reference_however_they_are_cut(
    monkeypatch, order, shape, weights, stride, padding, expected
):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    from flambeau.kernels.cpu import conv_algorithm, conv_weight

    plan, cuts, before = conv_weight.plan, set(), kernels.get_num_threads()

    def planned(*options):
        made = plan(*options)
        if made is not None:
            chunks, turned, images = map(int, made.sizes[-6:-3])
            kinds = (
                "padded" * options[-1],
                "chunks" * (chunks > 1),
                "turned" * turned,
                "images" * (images > 1),
            )
            cuts.add(" ".join(kind for kind in kinds if kind) or "parts")
        return made

    monkeypatch.setattr(conv_weight, "plan", planned)
    x, w, options = draw(*shape), draw(*weights), (stride, padding, (1, 1), 1)
    dy, exact, found = reference.conv2d(x, w, None, *options), np.ones_like(w, "f8"), []
    arrays = x.astype("f8"), dy.astype("f8"), w.astype("f8")
    reference.conv2d_backward(*arrays, exact, None, None, *options, False)
    try:
        for threads in (1, 2, 3):
            kernels.set_num_threads(threads)
            found.append(np.ones_like(w))
            with conv_algorithm.use("direct"):
                cpu.conv2d_backward(order(x), order(dy), w, found[-1], None, None, *options, False)
    finally:
        kernels.set_num_threads(before)
    assert order is np.copy or cuts == {expected}  # what is not channels-last is copied
    assert all((dw == found[0]).all() for dw in found)
    np.testing.assert_allclose(found[0], exact, atol=5e-6 * abs(exact).max())


@pytest.mark.parametrize("shape", [(2, 8, 9, 11), (1, 19, 9, 10), (3, 130, 20, 33)])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 3), (7, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize(
    "padding, dilation", [((0, 0), (1, 1)), ((2, 1), (1, 2)), ((1, 4), (1, 1))]
)
def test_depthwise_gradients_agree_with_the_reference_by_any_threads(
    shape, kernel, stride, padding, dilation
):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    before = kernels.get_num_threads()
    x, w, options = draw(*shape), draw(shape[1], 1, *kernel), (stride, padding, dilation, shape[1])
    y = reference.conv2d(x, w, None, *options)
    dy, expected = draw(*y.shape), np.ones_like(w)
    dx = reference.conv2d_backward(x, dy, w, expected, None, None, *options, True)
    found = []
    try:
        for threads in (1, 2, 3):
            kernels.set_num_threads(threads)
            for order in np.copy, channels_last:
                dw, both = np.ones_like(w), (order(x), order(dy))
                found.append((cpu.conv2d_backward(*both, w, dw, None, None, *options, True), dw))
    finally:
        kernels.set_num_threads(before)
    np.testing.assert_allclose(found[0][0], dx, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[0][1], expected, rtol=1e-4, atol=1e-3)
    for a, b in found[1:]:
        np.testing.assert_array_equal(a, found[0][0])
        np.testing.assert_array_equal(b, found[0][1])


@pytest.mark.parametrize("order", [np.copy, channels_last])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_groups_of_two_channels_are_not_taken_for_depthwise(order, stride):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    w, options = draw(32, 2, 3, 3), (stride, (1, 1), (1, 1), 32)
    x, wide = draw(2, 32, 6, 7), draw(2, 64, 6, 7)
    transposed = stride, (1, 1), (0, 0), (1, 1), 32
    expected = reference.conv_transpose2d(x, w, None, *transposed)
    found = cpu.conv_transpose2d(order(x), w, None, *transposed)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    dy = draw(*reference.conv2d(wide, w, None, *options).shape)
    found = []
    for package in cpu, reference:
        dw = np.zeros_like(w)
        dx = package.conv2d_backward(order(wide), order(dy), w, dw, None, None, *options, True)
        found.append((dx, dw))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("taps", [(1, 2), (1, 3), (2, 2), (1, 5), (3, 3), (4, 4)])
@pytest.mark.parametrize("channels", [16, 17, 19, 33])
def test_taps_are_reversed_for_the_gradient_of_the_input(channels, taps, groups):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    from flambeau.kernels.cpu import conv_algorithm

    x, w = draw(2, groups * channels, 9, 11), draw(groups * 24, channels, *taps)
    options = (1, 1), (0, 0), (1, 1), groups
    dy = draw(*reference.conv2d(x, w, None, *options).shape)
    with conv_algorithm.use("direct"):
        dx = cpu.conv2d_backward(x, dy, w, None, None, None, *options, True)
    expected = reference.conv2d_backward(x, dy, w, None, None, None, *options, True)
    np.testing.assert_allclose(dx, expected, atol=2e-5 * abs(expected).max())
