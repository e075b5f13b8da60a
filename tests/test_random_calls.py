"""Random calls of the C kernels agree with the reference; tests/random_calls.py runs longer."""

import numpy as np
import pytest

from flambeau.kernels import cpu, reference

import random_calls
import random_draws

SEEDS = 20  # in one test
ROUNDS = 15


@pytest.mark.parametrize("first", range(0, ROUNDS * SEEDS, SEEDS))
@pytest.mark.parametrize("name", random_calls.FAMILIES)
def test_random_calls_agree_with_the_reference(name, first):
    for seed in range(first, first + SEEDS):
        random_calls.run(name, seed)


def test_a_seed_draws_the_same_calls_again():
    def drawn():
        calls, draw = random_calls.FAMILIES["padding"], random_draws.Draw(5)
        return next(calls(draw)).args

    (x, around), (y, again) = drawn(), drawn()
    np.testing.assert_array_equal(x, y)
    assert (x.strides, around) == (y.strides, again)


def test_layouts_hold_the_values_and_guard_what_lies_beside():
    laid = guarded = 0
    for seed in range(200):
        draw = random_draws.Draw(seed)
        a = draw.values(2, 3, 4, 5)
        x = draw.laid(a)
        np.testing.assert_array_equal(x, a)
        draw.need_guards()
        laid += not x.flags.c_contiguous
        for base, part in draw.guarded:
            if base.size > part.size:
                guarded += 1
                base[np.isnan(base)] = 1
                with pytest.raises(AssertionError, match="wrote beside an array"):
                    draw.need_guards()
    assert laid > 50
    assert guarded > 20


WRONG = {  # what a kernel might do
    "conv2d": lambda y: y + 1e-3 * np.abs(y).max(),
    "max_pool2d": lambda y: (y[0] + 1, y[1]),
    "batch_norm": lambda y: (np.full_like(y[0], np.nan), *y[1:]),
    "linear": lambda y: y.astype("f8") if y.dtype == "f4" else y.astype("f4"),
    "softmax": lambda y: y * (1 + 1e-4),
}
FAMILY = {"conv2d": "conv", "max_pool2d": "pooling", "batch_norm": "normalization"}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_result_is_told_with_its_seed(name, monkeypatch):
    right = getattr(reference, name)
    monkeypatch.setattr(cpu, name, lambda *args: WRONG[name](right(*args)))
    with pytest.raises(AssertionError, match=name) as caught:
        for seed in range(20):
            random_calls.run(FAMILY.get(name, name), seed)
    assert f"seed {seed}, " in caught.value.__notes__[0]
    assert name in caught.value.__notes__[0]


def test_arguments_that_are_written_to_are_seen(monkeypatch):
    def linear(x, w, b):
        y = reference.linear(x, w, b)
        w += 1
        return y

    monkeypatch.setattr(cpu, "linear", linear)
    with pytest.raises(AssertionError, match="linear's arguments"):
        random_calls.run("linear", 0)


def test_the_command_tells_seed_and_call(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["random_calls.py", "--seed", "3", "softmax", "loss"])
    assert random_calls.main() == 0
    assert capsys.readouterr().out == "seeds 3 to 3: 0 failed\n"
    monkeypatch.setattr(cpu, "softmax", lambda x, axis: reference.softmax(x, axis) + 1)
    assert random_calls.main() == 1
    told = capsys.readouterr().out
    assert told.startswith("--seed 3 softmax\nAssertionError: softmax: ")
    assert "softmax, seed 3, " in told
