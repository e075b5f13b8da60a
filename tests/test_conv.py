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


@pytest.mark.parametrize("size", [14, 15])
def test_winograd_gives_the_same_bits_however_threads_part_the_tiles(size):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    from flambeau.kernels.cpu import winograd

    x, w, before = draw(1, 96, size, size), draw(72, 96, 3, 3), kernels.get_num_threads()
    options, found = ((1, 1), (1, 1), (1, 1), 1), []
    ways = [winograd.block(4, 16, 96, 72, threads)[2] for threads in (2, 4, 6)]
    assert ways == [winograd.BY_BLOCKS, winograd.BY_PANELS, winograd.SHARED]
    try:
        for threads in (1, 2, 4, 6, 70):
            kernels.set_num_threads(threads)
            with algorithm.use("winograd4"):
                found.append(kernels.package("cpu").conv2d(x, w, None, *options))
    finally:
        kernels.set_num_threads(before)
    expected = reference.conv2d(x, w, None, *options)
    np.testing.assert_allclose(found[0], expected, atol=2e-5 * abs(expected).max())
    assert all((y == found[0]).all() for y in found[1:])


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
ERRORS = {"patches": 2e-6, "direct": 2e-6, "winograd2": 2e-6}
ERRORS |= {"winograd4": 2e-5, "winograd6": 4e-5, "winograd7": 5e-5}


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


@pytest.mark.parametrize(
    "n, c, k, size, ways",
    [(n, 150, 40, 7, 3) for n in (1, 2, 3, 5, 8, 10)]  # tiles whose points are made in registers
    + [(1, 150, 40, 9, 3), (3, 150, 40, 9, 2), (2, 176, 160, 15, 2), (6, 130, 200, 22, 2)],
)
def test_weights_that_become_points_beside_the_products_are_as_exact(n, c, k, size, ways):
    algorithm = pytest.importorskip("flambeau.kernels.cpu.conv_algorithm")
    from flambeau.kernels.cpu import winograd

    tiles, counts = n * (-(-size // 7)) ** 2, (1, 2, 3, 9)
    assert winograd.makes(7, c, k) and winograd.makes(7, k, c) == (k > 128)
    assert len({winograd.making_block(tiles, k, threads)[2] for threads in counts}) == ways
    cpu, before, options = kernels.package("cpu"), kernels.get_num_threads(), ((1, 1),) * 3 + (1,)
    x, dy = np.maximum(draw(n, c, size, size), 0), draw(n, k, size, size)
    w = draw(k, c, 3, 3) * np.float32((2 / (9 * c)) ** 0.5)
    wide, found = [a.astype("f8") for a in (x, dy, w)], []
    exact = reference.conv2d(wide[0], wide[2], None, *options)
    dx = reference.conv2d_backward(*wide, None, None, None, *options, True)
    try:
        for threads in counts:
            kernels.set_num_threads(threads)
            with algorithm.use("winograd7"):
                y = cpu.conv2d(x, w, None, *options)
                found.append((y, cpu.conv2d_backward(x, dy, w, None, None, None, *options, True)))
    finally:
        kernels.set_num_threads(before)
    for a, b in zip(found[0], (exact, dx), strict=True):
        assert abs(a - b).max() / abs(b).max() < ERRORS["winograd7"]
    for pair in found[1:]:
        assert all((a == b).all() for a, b in zip(pair, found[0], strict=True))


def channels_last(x):
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@pytest.mark.parametrize(
    "shape, weights, stride, padding, dilation, groups, rows",
    [
        ((2, 3, 29, 31), (40, 3, 7, 7), (2, 2), (3, 3), (1, 1), 1, 0),
        ((1, 3, 20, 210), (17, 3, 3, 3), (1, 1), (1, 1), (1, 1), 1, 0),
        ((1, 3, 20, 210), (17, 3, 3, 7), (1, 1), (1, 3), (1, 1), 1, 0),
        ((2, 40, 14, 13), (72, 40, 3, 3), (2, 2), (1, 1), (1, 1), 1, 3),
        ((1, 420, 13, 14), (64, 420, 3, 3), (2, 2), (1, 1), (1, 1), 1, 1),
        ((3, 24, 13, 14), (80, 24, 1, 1), (2, 2), (0, 0), (1, 1), 1, 1),
        ((1, 48, 9, 9), (128, 24, 2, 3), (1, 1), (1, 1), (2, 2), 2, 2),
    ],
)
@pytest.mark.parametrize("order", [np.copy, channels_last])
def test_windows_agree_with_the_reference_gathered_or_not(
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
    many = [np.concatenate([a] * 4, 1) for a in (x, w)]
    assert algorithm.algorithm(*many, *once) == "winograd7"
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
