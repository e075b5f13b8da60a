"""Linear layers and matrix products: what the table of cases does not say."""

import numpy as np
import pytest

from flambeau import kernels

cpu = pytest.importorskip("flambeau.kernels.cpu.linear")
random = np.random.default_rng(3)

HIGH, LOW = (500, 37, 40), (30, 300, 1100)
SHAPES = [HIGH, LOW, (700, 150, 520), (7, 70, 900), (1, 400, 600), (90, 1, 3000), (300, 200, 5)]


def draw(*shape, dtype="f4"):
    return random.normal(size=shape).astype(dtype)


def matrix(rows, columns, order, dtype):
    """A matrix in memory in C order, transposed, or with numbers that are not its own between."""
    if order == "n":
        return draw(rows, columns, dtype=dtype)
    if order == "t":
        return draw(columns, rows, dtype=dtype).T
    return draw(2 * rows, 3 * columns, dtype=dtype)[::2, ::3]


@pytest.fixture
def threads():
    """Sets the number of threads; it is restored."""
    before = kernels.get_num_threads()
    yield kernels.set_num_threads
    kernels.set_num_threads(before)


@pytest.mark.parametrize("orders", ["nn", "nt", "tn", "tt", "ss"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_products_of_matrices_of_any_strides_agree_with_numpy(shape, orders, dtype):
    m, n, depth = shape
    a, b = matrix(m, depth, orders[0], dtype), matrix(depth, n, orders[1], dtype)
    bias, c = draw(n, dtype=dtype), np.full((m, n), np.nan, dtype)
    exact = {"rtol": 0, "atol": depth**0.5 * (1e-5 if dtype == "f4" else 1e-13)}
    cpu.product(a, b, c, False)
    np.testing.assert_allclose(c, a @ b, **exact)
    cpu.product(a, b, c, True)
    np.testing.assert_allclose(c, 2 * (a @ b), **exact)
    cpu.product(a, b, c, False, bias)
    np.testing.assert_allclose(c, a @ b + bias, **exact)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_do_not_depend_on_the_number_of_threads(shape, threads):
    m, n, depth = shape
    a, b, found = draw(m, depth), draw(depth, n), np.empty((3, m, n), "f4")
    for count in (1, 2, 3):
        threads(count)
        cpu.product(a, b, found[count - 1], False)
    assert (found == found[0]).all()


@pytest.mark.parametrize("rows", [*range(1, 10), 50, 331])
@pytest.mark.parametrize("sizes", [(0, 3), (1, 1), (37, 19), (520, 333)], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("biased", [True, False])
def test_linear_agrees_with_numpy_for_any_number_of_rows(rows, sizes, dtype, biased):
    i, o = sizes
    x, w = draw(rows, i, dtype=dtype), draw(o, i, dtype=dtype)
    b = draw(o, dtype=dtype) if biased else None
    expected = x @ w.T + (b if biased else 0)
    np.testing.assert_allclose(cpu.linear(x, w, b), expected, rtol=0, atol=3e-4)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("sizes", [(520, 4112), (1031, 2064), (2048, 1030)])
def test_where_large_weights_stand_changes_nothing(rows, sizes, dtype):
    cpu, (o, i) = kernels.package("cpu"), sizes
    x, b, values = draw(rows, i, dtype=dtype), draw(o, dtype=dtype), draw(o, i, dtype=dtype)
    room, found = np.empty(o * i + 32, dtype), []
    for first in range(0, 16, 3):
        w = room[first : first + o * i].reshape(o, i)
        w[...] = values
        found.append(cpu.linear(x, w, b))
    exact, error = x.astype("f8") @ values.T.astype("f8") + b, 5e-4 if dtype == "f4" else 1e-11
    np.testing.assert_allclose(found[0], exact, rtol=0, atol=error)
    assert all((y == found[0]).all() for y in found)


@pytest.mark.parametrize("rows", [9, 50, 331])
@pytest.mark.parametrize("sizes", [(1, 30000), (700, 333), (1100, 40)], ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_weights_that_cannot_change_give_the_same_from_their_panels(rows, sizes, dtype):
    i, o = sizes
    x, w, b = draw(rows, i, dtype=dtype), draw(o, i, dtype=dtype), draw(o, dtype=dtype)
    expected, fixed = cpu.linear(x, w, b), w.copy()
    fixed.flags.writeable = False
    for _ in range(2):
        assert (cpu.linear(x, fixed, b) == expected).all()


@pytest.mark.parametrize("sizes", [(1031, 307), (40, 8000), (520, 700), (30001, 9)], ids=str)
@pytest.mark.parametrize("rows", [*range(1, 9)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gradients_of_few_rows_agree_with_numpy_on_any_number_of_threads(
    sizes, rows, dtype, threads
):
    i, o = sizes
    x, dy, w = (draw(*s, dtype=dtype) for s in ((rows, i), (rows, o), (o, i)))
    sums, bias, found = draw(o, i, dtype=dtype), draw(o, dtype=dtype), []
    for count in (1, 2, 3):
        threads(count)
        dw, db = sums.copy(), bias.copy()
        found.append((cpu.linear_backward(x, dy, w, dw, db, True), dw, db))
    exact = {"rtol": 0, "atol": 2e-3 if dtype == "f4" else 1e-11}
    for got, right in zip(found[0], (dy @ w, sums + dy.T @ x, bias + dy.sum(0)), strict=True):
        np.testing.assert_allclose(got, right, **exact)
    for others in found[1:]:
        assert all((a == b).all() for a, b in zip(others, found[0], strict=True))


def special(w):
    """Numbers of all exponents, zeros and none at all, at some places."""
    at = random.choice(w.size, w.size // 5000, replace=False)
    w.ravel()[at] = np.exp2(random.uniform(-160, 60, at.size))
    w[::7, 5] = 0
    w[1, 3], w[2, :4], w[-1, -1] = np.inf, -np.inf, np.nan
    return w


@pytest.mark.parametrize("sizes", [(8192, 257), (512, 4101), (4096, 521)], ids=str)
@pytest.mark.parametrize("of", ["any", "normal", "positive"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_large_weights_that_cannot_change_lose_nothing_in_fewer_bits(rows, of, sizes):
    weights, (i, o) = pytest.importorskip("flambeau.kernels.cpu.weights"), sizes
    x, w, b = draw(rows, i), draw(o, i) * np.float32(0.01), draw(o)
    if of == "any":
        special(w)
    elif of == "positive":
        np.abs(w, out=w)
    fixed = w.copy()
    fixed.flags.writeable = False
    with np.errstate(all="ignore"):
        expected = cpu.linear(x, w, b)
        found = [cpu.linear(x, fixed, b) for _ in range(3)]
        without = cpu.linear(x, w, None), cpu.linear(x, fixed, None)
    assert rows > 2 or weights.kept_later(fixed, "compact", None)  # it is there
    for y in found:
        np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(*without)


@pytest.mark.parametrize("value, fewer", [(0.01, True), (0, False)])
def test_only_weights_that_need_fewer_bits_get_them(value, fewer):
    weights = pytest.importorskip("flambeau.kernels.cpu.weights")
    w = np.float32(value) * draw(600, 4096)
    w.flags.writeable = False
    for uses in range(4):
        made = weights.kept_later(w, "compact", cpu.compact)
        assert made is None if uses == 0 else bool(made) == fewer
    if fewer:
        numbers, windows, starts = made
        assert numbers.size == starts[-1] < 0.88 * w.size
        assert windows.shape[0] + 1 == starts.size == 601


SMALL = [(9, 1, 16368), (9, 1927, 1), (10, 300, 60), (300, 5, 9), (12, 9, 1300), (64, 64, 37)]


@pytest.mark.parametrize("shape", SMALL, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_small_layers_agree_with_numpy_up_to_their_scratch_memory(shape, dtype):
    n, i, o = shape
    x, w, b, dy = (draw(*s, dtype=dtype) for s in ((n, i), (o, i), (o,), (n, o)))
    dw, db = draw(o, i, dtype=dtype), draw(o, dtype=dtype)
    y = cpu.linear_relu(x, w, b)
    np.testing.assert_allclose(y, np.maximum(x @ w.T + b, 0), rtol=0, atol=1e-4)
    passed = dy * (y > 0)
    expected = passed @ w, dw + passed.T @ x, db + passed.sum(0)
    dx = cpu.linear_relu_backward(x, y, dy, w, dw, db, True)
    for got, right in zip((dx, dw, db), expected, strict=True):
        np.testing.assert_allclose(got, right, rtol=0, atol=1e-3)
