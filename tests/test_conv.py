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
        ("Conv2d(3, 4, 3, stride=0)", "positive"),
        ("Conv2d(3, 4, 3, padding=-1)", "negative"),
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
    native = pytest.importorskip("flambeau.kernels.cpu.native")
    before = native.lib.threads()
    found = []
    try:
        for threads in (1, 2, 3):
            native.lib.set_threads(threads)
            nn.seed(4)
            with kernels.use("cpu"):
                module = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
                x = draw(2, 8, 25, 27)
                y = module(x)
                found.append([y, module.backward(x, y), *module.gradients()])
    finally:
        native.lib.set_threads(before)
    for other in found[1:]:
        assert all((a == b).all() for a, b in zip(found[0], other, strict=True))


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
        dx = package.conv2d_backward(x, dy, w, dw, db, *options, True)
        found.append((dx, dw, db))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12 * abs(b).max())


def test_half_precision_is_computed_by_the_reference():
    x, w = draw(1, 2, 5, 5, dtype="f2"), draw(3, 2, 3, 3, dtype="f2")
    options = (1, 1), (0, 0), (1, 1), 1
    y = kernels.of(x).conv2d(x, w, None, *options)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, reference.conv2d(x, w, None, *options))
