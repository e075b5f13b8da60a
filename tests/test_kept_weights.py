"""Weights as kernels read them: made once, kept, and never stale."""

import numpy as np
import pytest

from flambeau import kernels
from flambeau.kernels import reference

from test_conv import draw


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


@pytest.mark.parametrize("rows", [1, 4, 30])
def test_what_was_made_of_fixed_weights_is_forgotten_once_they_can_change(rows):
    linear = pytest.importorskip("flambeau.kernels.cpu").linear
    x, w = draw(rows, 4096), draw(600, 4096)
    for _ in range(3):
        w.flags.writeable = False
        for n in (1, rows, 1, rows, 1):
            np.testing.assert_allclose(linear(x[:n], w, None), x[:n] @ w.T, atol=1e-2)
        w.flags.writeable = True
        w *= -2
        linear(x, w, None)
