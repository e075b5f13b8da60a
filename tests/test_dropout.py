"""Dropout: the generator, the mask, the scale, and what is kept for backward."""

import numpy as np
import pytest

from flambeau import kernels, nn
from flambeau.kernels.reference.dropout import philox


def on(device, x):
    return kernels.to(x, "cpu" if device in ("reference", "cpu") else device)


def numpy(x):
    return kernels.of(x).numpy(x)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_gives_the_known_answers_of_its_authors(counter, key, words):
    def read(text):
        return [int(word, 16) for word in text.split()]

    assert [int(word) for word in philox(read(counter), read(key))] == read(words)


@pytest.mark.parametrize(
    ("key", "counter"), [(0, 0), (1, 7), (2**64 - 1, 2**32 - 3), (0x299F31D0A4093822, 2**40 + 1)]
)
@pytest.mark.parametrize("n", [1, 3, 4, 5, 255, 256, 257, 1030])
def test_element_e_takes_word_e_mod_4_of_block_e_div_4(key, counter, n, device):
    words = []
    for block in range(counter, counter + -(-n // 4)):
        place = [block & 0xFFFFFFFF, block >> 32, 0, 0]
        words += [int(w) for w in philox(place, [key & 0xFFFFFFFF, key >> 32])]
    kept = np.array(words[:n]) >= 0.3 * 2**32
    x = np.arange(1.0, n + 1)
    y = kernels.of(on(device, x)).dropout(on(device, x), 0.3, key, counter)
    np.testing.assert_allclose(numpy(y), np.where(kept, x / 0.7, 0), rtol=1e-14)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_kept_part_is_1_minus_p_and_keeps_the_mean(p, device):
    nn.seed(3)
    n = 20000
    y = numpy(nn.Dropout(p)(on(device, np.ones(n, "f4"))))
    deviation = np.sqrt(p * (1 - p) / n)
    assert abs((y > 0).mean() - (1 - p)) < 4 * deviation
    np.testing.assert_allclose(y[y > 0], 1 / (1 - p), rtol=1e-6)
    neighbours = ((y[:-1] > 0) & (y[1:] > 0)).mean()
    assert abs(neighbours - (1 - p) ** 2) < 6 * deviation


def test_p_of_0_keeps_all_and_p_of_1_nothing(device):
    x = on(device, np.array([1.0, np.inf, -3.0]))
    assert numpy(nn.Dropout(0)(x)).tolist() == [1.0, np.inf, -3.0]
    assert numpy(nn.Dropout(1)(x)).tolist() == [0.0, 0.0, 0.0]


def test_a_seed_gives_the_same_masks_and_the_stream_goes_on(device):
    x = on(device, np.ones((7, 3)))
    drop = nn.Dropout()
    nn.seed(5)
    first, second = numpy(drop(x)), numpy(drop(x))
    nn.seed(5)
    assert (numpy(drop(x)) == first).all()
    assert (numpy(drop(x)) == second).all()
    nn.seed(6)
    assert (numpy(drop(x)) != first).any()
    assert (first != second).any()


def test_masks_are_the_same_on_every_device(device):
    x = np.ones((5, 11), "f4")
    nn.seed(9)
    with kernels.use("reference"):
        expected = nn.Dropout(0.4)(x)
    nn.seed(9)
    assert (numpy(nn.Dropout(0.4)(on(device, x))) == expected).all()


def test_float64_and_float32_have_the_same_mask(device):
    masks = []
    for dtype in ("f4", "f8"):
        nn.seed(2)
        masks.append(numpy(nn.Dropout()(on(device, np.ones(50, dtype)))) > 0)
    assert (masks[0] == masks[1]).all()


def test_backward_uses_the_mask_of_forward(device):
    drop, x = nn.Dropout(0.3), on(device, np.ones((6, 7)))
    y = drop(x)
    assert (numpy(drop.backward(x, x)) == numpy(y)).all()
    assert (numpy(drop.backward(x, x)) == numpy(y)).all()


def test_taken_state_put_back_gives_the_mask_of_that_time(device):
    drop, x = nn.Dropout(0.3), on(device, np.ones((6, 7)))
    first = drop(x)
    state = drop.take_saved()
    second = drop(x)
    assert (numpy(first) != numpy(second)).any()
    assert (numpy(drop.backward(x, x)) == numpy(second)).all()
    drop.put_saved(state)
    assert (numpy(drop.backward(x, x)) == numpy(first)).all()


def test_evaluation_passes_all_both_ways(device):
    drop, x = nn.Dropout(0.3), on(device, np.arange(12.0).reshape(3, 4))
    drop(x)
    drop.eval()
    assert (numpy(drop(x)) == numpy(x)).all()
    assert (numpy(drop.backward(x, x)) == numpy(x)).all()


def test_p_outside_0_to_1_is_refused():
    for p in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="p must be from 0 to 1"):
            nn.Dropout(p)
