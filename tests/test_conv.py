"""Convolutions: what the table of cases does not say."""

import numpy as np
import pytest

from flambeau import kernels, nn
from flambeau.kernels import reference


def draw(*shape, dtype="f4"):
    return np.random.default_rng(2).normal(size=shape).astype(dtype)


@pytest.mark.parametrize(
    "text, must",
    [
        ("Conv2d(3, 4, 3, groups=2)", "divisible by groups"),
        ("Conv2d(0, 4, 3)", "positive"),
        ("Conv2d(3, 4, 3, stride=0)", "stride must be an integer from 1 up"),
        ("Conv2d(3, 4, 3, padding=-1)", "padding must be an integer from 0 up"),
        ("Conv2d(3, 4, 2, padding='same')", "odd kernel"),
        ("Conv2d(3, 4, 3, stride=2, padding='same')", "stride 1"),
        ("Conv2d(3, 4, 3, padding='full')", "same or valid"),
        ("ConvTranspose2d(3, 4, 3, stride=2, output_padding=2)", "less than stride"),
    ],
)
def test_options_that_make_no_sense_are_refused(text, must):
    with pytest.raises(ValueError, match=must) as caught:
        eval(text, vars(nn))
    assert str(caught.value).startswith(text)


def test_a_kernel_larger_than_the_padded_image_is_an_error_that_says_what_came():
    with pytest.raises(
        ValueError, match=r"Conv2d\(3, 4, 5, padding=1\): x must .* got x \(1, 3, 2"
    ):
        nn.Conv2d(3, 4, 5, padding=1)(draw(1, 3, 2, 9))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_results_do_not_depend_on_the_number_of_threads(groups):
    pytest.importorskip("flambeau.kernels.cpu")
    before = kernels.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            kernels.set_num_threads(threads)
            nn.seed(4)
            with kernels.use("cpu"):
                module = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
                x = draw(2, 8, 25, 27)
                y = module(x)
                found.append([y, module.backward(x, y), *module.gradients()])
    finally:
        kernels.set_num_threads(before)
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    ("shape", "weights", "stride", "padding"),
    [
        ((1, 64, 20, 28), (128, 64, 1, 1), (1, 1), (0, 0)),  # strips of one line
        ((1, 128, 14, 14), (256, 128, 1, 1), (2, 2), (0, 0)),  # shares of what is gathered at once
        ((1, 64, 14, 14), (256, 64, 3, 3), (2, 2), (1, 1)),  # of what is gathered by rows of taps
        ((2, 64, 9, 9), (128, 32, 3, 3), (1, 1), (1, 1)),  # groups
    ],
)
def test_threads_that_share_strips_give_the_same_bits(shape, weights, stride, padding):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w, before = channels_last(draw(*shape)), draw(*weights), kernels.get_num_threads()
    options, found = (stride, padding, (1, 1), shape[1] // weights[1]), []
    try:
        for threads in (1, 2, 3, 70):  # 70: more than there are queues
            kernels.set_num_threads(threads)
            found.append(cpu.conv2d(x, w, None, *options))
    finally:
        kernels.set_num_threads(before)
    np.testing.assert_allclose(found[0], reference.conv2d(x, w, None, *options), atol=1e-3)
    assert all((y == found[0]).all() for y in found[1:])


@pytest.mark.parametrize(
    "shape, weights, stride, groups",
    [
        ((2, 70, 21, 23), (33, 70, 3, 3), (1, 1), 1),  # several blocks of every kind
        ((1, 520, 20, 21), (15, 520, 1, 1), (1, 1), 1),
        ((1, 3, 60, 61), (29, 3, 7, 7), (2, 2), 1),
        ((2, 6, 33, 70), (6, 1, 5, 5), (2, 2), 6),
        ((1, 2, 40, 40), (2, 2, 39, 40), (1, 1), 1),  # as large as the image
    ],
)
def test_large_convolutions_agree_with_the_reference(shape, weights, stride, groups):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w = draw(*shape, dtype="f8"), draw(*weights, dtype="f8")
    options = stride, (1, 2), (1, 1), groups
    dy = reference.conv2d(x, w, None, *options)
    np.testing.assert_allclose(cpu.conv2d(x, w, None, *options), dy, atol=1e-9)
    found = []
    for package in (cpu, reference):
        dw, db = np.zeros_like(w), np.zeros(len(w))
        dx = package.conv2d_backward(x, dy, w, dw, db, None, *options, True)
        found.append((dx, dw, db))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * abs(b).max())


def test_half_precision_is_computed_by_the_reference():
    x, w = draw(1, 2, 5, 5, dtype="f2"), draw(3, 2, 3, 3, dtype="f2")
    options = (1, 1), (0, 0), (1, 1), 1
    y = kernels.of(x).conv2d(x, w, None, *options)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, reference.conv2d(x, w, None, *options))


@pytest.mark.parametrize("kernel", [2.5, "3", (3, 3, 3), 0])
def test_sizes_that_are_no_integers_are_refused(kernel):
    with pytest.raises(ValueError, match="kernel_size must be an integer from 1 up, or a pair"):
        nn.Conv2d(3, 4, kernel)


def test_sizes_may_be_numpys_integers():
    assert nn.Conv2d(3, 4, np.int64(3), stride=np.int32(2)).stride == (2, 2)


FUSED = [
    (options, bounds)
    for options in [((1, 1), (1, 1), (1, 1), 1), ((2, 1), (0, 2), (1, 2), 2), ((1, 1),) * 3 + (6,)]
    for bounds in [(None, None), (0.0, None), (0.0, 6.0), (None, 0.1)]
]


@pytest.mark.parametrize("package", ["reference", "cpu", "cuda"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("options, bounds", FUSED)
def test_the_fused_convolution_adds_and_holds_within_bounds(package, dtype, options, bounds):
    offered = kernels.package(package)
    stride, padding, dilation, groups = options
    x, w, b = draw(2, 6, 9, 8, dtype=dtype), draw(12, 6 // groups, 3, 3, dtype=dtype), draw(12)
    plain = reference.conv2d(x, w, b.astype(dtype), *options)
    for other in (None, draw(*plain.shape, dtype=dtype)):
        expected = plain if other is None else plain + other
        low, high = bounds
        expected = np.minimum(expected, np.inf if high is None else high)
        expected = np.maximum(expected, -np.inf if low is None else low)
        where = "host" if package == "cuda" else "cpu"
        arrays = [
            None if a is None else kernels.to(a.astype(dtype), where) for a in (x, w, b, other)
        ]
        y = offered.conv2d_fused(*arrays, low, high, *options)
        y = offered.numpy(y)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, atol=2e-5 if dtype == "f4" else 1e-12)


def test_what_is_not_a_number_stays_so_within_bounds():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w = draw(1, 4, 6, 6), draw(16, 4, 1, 1)
    x[0, 0, 2, 3] = np.nan
    y = cpu.conv2d_fused(x, w, None, None, 0.0, 6.0, (1, 1), (0, 0), (1, 1), 1)
    assert np.isnan(y[:, :, 2, 3]).all() and np.isnan(y).sum() == 16


SHAPES = [  # x, number of results, padding
    ((1, 64, 30, 29), 64, (1, 1)),
    ((2, 37, 13, 17), 45, (0, 1)),
    ((3, 16, 5, 3), 17, (2, 2)),
    ((1, 128, 14, 14), 160, (1, 1)),
    ((2, 24, 1, 9), 33, (1, 0)),
]
ERRORS = {"patches": 2e-6, "direct": 2e-6, "winograd2": 2e-6, "winograd4": 2e-5, "winograd6": 4e-5}


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("shape, k, padding", SHAPES)
def test_the_error_of_each_algorithm_is_within_what_is_stated(name, shape, k, padding):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    cpu = kernels.package("cpu")
    x, b = np.maximum(draw(*shape), 0), draw(k)
    w = draw(k, shape[1], 3, 3) * np.float32((2 / (9 * shape[1])) ** 0.5)
    options = (1, 1), padding, (1, 1), 1
    exact = reference.conv2d(*(a.astype("f8") for a in (x, w, b)), *options)
    with algorithm.use(name):
        assert algorithm.algorithm(x, w, *options) == name
        y = cpu.conv2d(x, w, b, *options)
    assert abs(y - exact).max() / abs(exact).max() < ERRORS[name]


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


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["direct", "winograd2", "winograd4", "winograd6"])
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


@pytest.mark.parametrize("name", ["winograd2", "winograd4", "winograd6"])
@pytest.mark.parametrize("c, k", [(8, 16), (20, 19), (41, 50)])
def test_gradients_of_weights_over_many_tiles_are_the_same_by_any_threads(name, c, k):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    cpu, before, options = kernels.package("cpu"), kernels.get_num_threads(), ((1, 1),) * 3
    x, dy, found = draw(5, c, 61, 35), draw(5, k, 61, 35), []
    try:
        for threads in (1, 2, 3):
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
        ((2, 208, 12, 11), (40, 208, 1, 1), (2, 2), (0, 0), "parts"),
        ((2, 48, 26, 19), (70, 48, 3, 3), (2, 1), (0, 0), "parts"),
        ((2, 80, 37, 41), (45, 80, 1, 1), (1, 1), (0, 0), "chunks"),
        ((1, 16, 80, 65), (6, 16, 1, 1), (1, 1), (0, 0), "chunks"),
        ((1, 20, 104, 101), (21, 20, 2, 2), (1, 1), (1, 2), "chunks"),
        ((1, 3, 201, 206), (17, 3, 7, 7), (2, 2), (3, 3), "chunks"),
        ((2, 40, 31, 29), (33, 40, 3, 3), (2, 2), (1, 1), "shared"),
        ((2, 21, 9, 13), (3, 21, 1, 5), (1, 1), (0, 2), "shared"),
    ],
)
@pytest.mark.parametrize("order", [np.copy, channels_last])
def test_gradients_of_weights_agree_with_the_reference_however_they_are_cut(
    monkeypatch, order, shape, weights, stride, padding, expected
):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    from flambeau.kernels.cpu import conv_algorithm, conv_gradient

    plan, plans, before = conv_gradient.plan, [], kernels.get_num_threads()
    monkeypatch.setattr(conv_gradient, "plan", lambda *a: plans.append(plan(*a)) or plans[-1])
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
    cuts = {"shared" if p.shared else "chunks" if p.chunks > 1 else "parts" for p in plans}
    assert order is np.copy or cuts == {expected}  # what is not channels-last is copied
    assert all((dw == found[0]).all() for dw in found)
    np.testing.assert_allclose(found[0], exact, atol=5e-6 * abs(exact).max())


@pytest.mark.parametrize(
    "shape, weights, stride, padding, dilation, groups, rows",
    [
        ((2, 3, 29, 31), (40, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1, 7),
        ((1, 3, 20, 210), (17, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1, 3),
        ((1, 3, 20, 210), (17, 3, 3, 7), (1, 1), (1, 3), (1, 1), 1, 3),
        ((2, 40, 14, 13), (72, 40, 3, 3), (2, 2), (1, 1), (1, 1), 1, 3),
        ((1, 420, 13, 14), (64, 420, 3, 3), (2, 2), (1, 1), (1, 1), 1, 1),
        ((3, 24, 13, 14), (80, 24, 1, 1), (2, 2), (0, 0), (1, 1), 1, 1),
        ((1, 48, 9, 9), (128, 24, 2, 3), (1, 1), (1, 1), (2, 2), 2, 2),
    ],
)
@pytest.mark.parametrize("order", [np.copy, channels_last])
def test_windows_that_are_gathered_agree_with_the_reference(
    order, shape, weights, stride, padding, dilation, groups, rows
):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    from flambeau.kernels.cpu import conv_algorithm, conv_last

    x, w, b = draw(*shape), draw(*weights), draw(weights[0])
    options = stride, padding, dilation, groups
    plain = reference.conv2d(x, w, b, *options)
    sizes = weights[1], weights[2:], weights[0] // groups, plain.shape[2:], dilation
    if weights[1] * weights[3] < conv_last.weights.panel_width() // 2:
        rows = 0  # runs of taps too short for this instruction set
    assert conv_last.gathered_rows(*sizes, True) == rows
    for other, low, high in ((None, None, None), (draw(*plain.shape), 0.0, 9.0)):
        expected = reference.conv2d_fused(x, w, b, other, low, high, *options)
        with conv_algorithm.use("direct"):
            y = cpu.conv2d_fused(order(x), w, b, other, low, high, *options)
        np.testing.assert_allclose(y, expected, atol=2e-5 * abs(plain).max())


@pytest.mark.parametrize("size, k", [(14, 16), (14, 80), (14, 112), (7, 48)])
def test_windows_are_parted_so_that_two_threads_have_as_many_tasks(size, k):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    from flambeau.kernels.cpu import conv_last

    x, w, b, once = draw(1, 96, size, size), draw(k, 96, 1, 1), draw(k), (1, 1)
    strides = 0, 1, 96 * size, 96
    options = once, k, (size, size), once, (0, 0), once, 1, 2
    sizes, _ = conv_last.plan((1, 960, size, size), strides, *options)
    columns, taken = sizes[23], sizes[24]
    panels = conv_last.pieces(k, conv_last.weights.panel_width())
    assert conv_last.pieces(size**2, columns) * conv_last.pieces(panels, taken) % 2 == 0
    before = kernels.get_num_threads()
    kernels.set_num_threads(2)
    try:
        y = cpu.conv2d(channels_last(x), w, b, once, (0, 0), once, 1)
    finally:
        kernels.set_num_threads(before)
    expected = reference.conv2d(x, w, b, once, (0, 0), once, 1)
    np.testing.assert_allclose(y, expected, atol=2e-5 * abs(expected).max())


def test_the_algorithm_is_chosen_by_size_and_can_be_forced():
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    x, w = draw(1, 64, 56, 56), draw(64, 64, 3, 3)
    once = (1, 1), (1, 1), (1, 1), 1
    assert algorithm.algorithm(x, w, *once) in ("winograd4", "winograd6")
    assert algorithm.algorithm(x, w, (2, 2), *once[1:]) == "direct"
    assert algorithm.algorithm(x[:, :, :1, :1], w, *once) == "direct"
    assert algorithm.algorithm(x.astype("f8"), w.astype("f8"), *once) == "patches"
    assert algorithm.algorithm(x, w[:, :1], *once[:3], 64) == "depthwise"
    with algorithm.use("direct"):
        assert algorithm.algorithm(x, w, *once) == "direct"
    with pytest.raises(ValueError, match="is patches, .* — got 'fft'"), algorithm.use("fft"):
        pass


@pytest.mark.parametrize(
    "weights, stride, padding, dilation, groups",
    [
        ((40, 24, 1, 1), (1, 1), (0, 0), (1, 1), 1),
        ((40, 24, 1, 1), (2, 3), (0, 0), (1, 1), 1),
        ((33, 24, 3, 5), (2, 1), (1, 2), (1, 1), 1),
        ((33, 24, 3, 2), (1, 1), (0, 0), (1, 1), 1),
        ((33, 24, 2, 3), (1, 2), (2, 0), (3, 2), 1),
        ((36, 12, 3, 3), (1, 1), (1, 1), (1, 1), 2),
        ((24, 1, 3, 3), (2, 1), (1, 1), (1, 1), 24),
    ],
)
def test_memory_order_changes_nothing_but_speed(weights, stride, padding, dilation, groups):
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    wide, w, b = draw(3, 48, 18, 22), draw(*weights), draw(weights[0])
    options = stride, padding, dilation, groups
    x = wide[:, 12:36, 3:, :-2]
    expected = reference.conv2d(x, w, b, *options)
    views = x, x.copy(), channels_last(x), channels_last(wide)[:, 12:36, 3:, :-2], x[..., ::-1]
    for view in views[:4]:
        np.testing.assert_allclose(cpu.conv2d(view, w, b, *options), expected, atol=1e-4)
    turned = reference.conv2d(views[4], w, b, *options)
    np.testing.assert_allclose(cpu.conv2d(views[4], w, b, *options), turned, atol=1e-4)


def changed_in_one_element(w):
    w[3, 2, 1, 0] = np.nextafter(w[3, 2, 1, 0], 9)


def changed_in_two_signs(w):
    w[5, 3] *= -1
    w[7, 3] *= -1


def with_two_elements_swapped(w):
    w[0, 0, 0, 0], w[-1, -1, 1, 1] = w[-1, -1, 1, 1], w[0, 0, 0, 0]


def with_two_filters_swapped(w):
    w[[2, 9]] = w[[9, 2]]


def changed_through_a_flat_view(w):
    w.reshape(-1)[-1] += 1


def changed_through_its_bytes(w):
    w.view(np.uint8).reshape(-1)[0] ^= 1


@pytest.mark.parametrize("name", ["direct", "winograd4"])
@pytest.mark.parametrize(
    "change",
    [
        changed_in_one_element,
        changed_in_two_signs,
        with_two_elements_swapped,
        with_two_filters_swapped,
        changed_through_a_flat_view,
        changed_through_its_bytes,
    ],
)
def test_weights_changed_in_place_are_never_stale(change, name):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    cpu = kernels.package("cpu")
    options = (1, 1), (1, 1), (1, 1), 1
    x, w = draw(1, 16, 8, 8), draw(32, 16, 3, 3)
    with algorithm.use(name):
        cpu.conv2d(x, w, None, *options)
        change(w)
        y = cpu.conv2d(x, w, None, *options)
        assert (y == cpu.conv2d(x, w.copy(), None, *options)).all()


def test_the_hash_of_weights_sees_every_bit():
    weights = pytest.importorskip("flambeau.kernels.cpu.weights")
    w = draw(3, 2, 3, 3)
    seen, bits = {weights.fingerprint(w)}, w.view(np.uint32).reshape(-1)
    for i in range(bits.size):
        for bit in range(32):
            bits[i] ^= np.uint32(1 << bit)
            seen.add(weights.fingerprint(w))
            bits[i] ^= np.uint32(1 << bit)
    assert len(seen) == 1 + 32 * bits.size


def test_weights_at_the_place_of_dead_ones_are_their_own():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    weights = cpu.conv.weights
    x, options = draw(1, 4, 5, 5), ((1, 1), (0, 0), (1, 1), 1)
    for value in range(20):  # each takes the memory, and mostly the id, of the one before
        w = np.full((16, 4, 3, 3), value, np.float32)
        kept = len(weights._kept)
        expected = reference.conv2d(x, w, None, *options)
        np.testing.assert_allclose(cpu.conv2d(x, w, None, *options), expected, rtol=1e-5, atol=1e-5)
        assert len(weights._kept) == kept + 1
        del w
        assert len(weights._kept) == kept


def test_fresh_views_of_weights_are_the_same_weights_until_these_change():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    weights = cpu.conv.weights
    made = []

    def panels(w):
        return weights.kept(w, "test", lambda w: made.append(w.copy()) or made[-1])

    flat = draw(2 * 18 * 4 * 3)
    first, second = flat[: 18 * 12], flat[18 * 12 :]
    for _ in range(3):
        for part in (first, second):
            assert (panels(part.reshape(18, 4, 1, 3)) == part.reshape(18, 4, 1, 3)).all()
    assert len(made) == 4  # kept from the second use on
    first[5] += 1
    assert (panels(first.reshape(18, 4, 1, 3)) == first.reshape(18, 4, 1, 3)).all()
    assert len(made) == 5
    kept = len(weights._kept)
    del flat, first, second, part
    made.clear()
    assert len(weights._kept) == kept - 2


def test_weights_that_are_trained_are_not_kept_between_steps():
    weights = pytest.importorskip("flambeau.kernels.cpu.weights")
    w, made = draw(18, 4, 3, 3), []
    for _ in range(3):
        for key in ("forward", "backward"):
            weights.kept(w, key, lambda w, key=key: made.append(key) or w.copy())
        assert not weights._kept[id(w)].made
        w += 1
    assert made == ["forward", "backward"] * 3
    for _ in range(3):
        weights.kept(w, "forward", lambda w: made.append("forward") or w.copy())
    assert len(made) == 8 and list(weights._kept[id(w)].made) == ["forward"]


def test_weights_that_always_change_are_seldom_looked_at_and_kept_again_later(monkeypatch):
    weights = pytest.importorskip("flambeau.kernels.cpu.weights")
    looks, look = [], weights.fingerprint
    monkeypatch.setattr(weights, "fingerprint", lambda w: looks.append(1) or look(w))
    w, made = draw(18, 4, 3, 3), []

    def used(w):
        return weights.kept(w, "key", lambda w: made.append(1) or w.copy())

    for _ in range(weights.TRAINED + 8 * weights.SELDOM):
        w += 1
        assert (used(w) == w).all()
    assert weights.TRAINED < len(looks) < weights.TRAINED + 10
    for _ in range(2 * weights.SELDOM):  # trained no more
        used(w)
    made.clear()
    for _ in range(5):
        assert (used(w) == w).all()
    assert not made
    w += 1
    assert (used(w) == w).all() and made


@pytest.mark.filterwarnings("ignore:Setting the (shape|dtype)")  # which later NumPys discourage
def test_weights_that_change_their_type_or_shape_in_place_are_their_own():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    x, w, options = draw(1, 4, 5, 5), draw(18, 4, 3, 2), ((1, 1), (0, 0), (1, 1), 1)
    cpu.conv2d(x, w, None, *options)
    w.shape = 18, 4, 2, 3
    expected = reference.conv2d(x, w, None, *options)
    np.testing.assert_allclose(cpu.conv2d(x, w, None, *options), expected, atol=1e-4)
    w.shape = 18, 4, 3, 2
    w.dtype = "f8"
    expected = reference.conv2d(x.astype("f8"), w, None, *options)
    np.testing.assert_allclose(cpu.conv2d(x.astype("f8"), w, None, *options), expected, rtol=1e-9)


def test_fixed_weights_are_not_looked_at_again():
    weights = pytest.importorskip("flambeau.kernels.cpu.weights")
    w = draw(4, 3, 3, 3)
    assert not weights.cannot_change(w)
    w.flags.writeable = False
    assert weights.cannot_change(w)
    assert not weights.cannot_change(w[:2])  # the array that it is a part of may be written to


@pytest.mark.parametrize("shape", [(2, 37, 13, 17), (1, 3, 80, 81), (3, 64, 1, 5), (2, 1, 4, 4)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_images_change_their_memory_order_and_nothing_else(shape, dtype):
    layout = pytest.importorskip("flambeau.kernels.cpu.layout")
    x = draw(*shape, dtype=dtype)
    last = layout.arranged(x, True)
    assert last.transpose(0, 2, 3, 1).flags.c_contiguous and (last == x).all()
    first = layout.arranged(last, False)
    assert first.flags.c_contiguous and (first == x).all()


@pytest.mark.parametrize("kernel, groups", [(1, 1), (3, 1), (3, 24)])
def test_an_empty_batch_gives_an_empty_batch(kernel, groups):
    net = nn.Conv2d(24, 48, kernel, padding=kernel // 2, groups=groups)
    x = np.empty((0, 24, 6, 5), "f4")
    y = net(x)
    assert y.shape == (0, 48, 6, 5)
    assert net.backward(x, y).shape == x.shape
    assert not net.grad_weight.any() and not net.grad_bias.any()


def test_pixels_are_copied_between_images_of_any_strides():
    layout = pytest.importorskip("flambeau.kernels.cpu.layout")
    for shape in (2, 8, 5, 7), (3, 1, 4, 4), (0, 8, 5, 7), (4, 64, 40, 40):
        for dtype in "f4", "f8", "i4":
            whole = (100 * draw(shape[0], *(2 * s for s in shape[1:]))).astype(dtype)
            for x in whole, channels_last(whole):
                parts = [x[:, ::2, 1::2, ::2], x[:, : shape[1], : shape[2], shape[3] :]]
                parts += [part[..., ::-1] for part in parts]
                for part in parts:
                    y = np.zeros_like(channels_last(x))
                    to = y[:, : shape[1], ::2, 1::2]
                    layout.assign(to, part)
                    np.testing.assert_array_equal(to, part)
                    assert not y[:, :, 1::2].any() and not y[:, :, :, ::2].any()
                    layout.assign(to, None)
                    assert not y.any()
