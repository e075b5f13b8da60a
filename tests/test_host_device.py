"""CUDA kernels on the host: fibres, HostArray, launches, and what is kept on disk."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from mutants import MUTANTS

from flambeau import kernels
from flambeau.kernels.cuda import conv, device, host, product, source

HAS_NVCC = shutil.which(os.environ.get("NVCC") or "nvcc") is not None


@pytest.fixture
def kernel(tmp_path):
    """Write a .cu file of one's own; its path serves as the family."""

    def write(text, name="own"):
        path = tmp_path / f"{name}.cu"
        path.write_text('#include "kernel.h"\n' + text)
        return str(path)

    return write


def on_host(*values, dtype="f4"):
    return kernels.to(np.array(values, dtype), "host")


# Fibres

REVERSE = """
KERNEL reverse(const real *x, real *y, i64 rows, i64 n) {
    SHARED real row[BLOCK];
    BLOCKS(r, rows) {
        THREADS(i, n) row[i] = x[r * n + i];
        BARRIER;
        THREADS(i, n) y[r * n + i] = row[n - 1 - i];
        BARRIER;
    }
}
"""


def reverse(family):
    x = kernels.to(np.arange(70, dtype="f4").reshape(5, 14), "host")
    y = kernels.of(x).zeros(x, x.shape, "f4")
    device.launch_blocks(family, "reverse", 5, x, y, 5, 14)
    return (y.get() == x.get()[:, ::-1]).all()


def test_threads_exchange_values_through_shared_memory(kernel):
    assert reverse(kernel(REVERSE))


def test_a_missing_barrier_gives_wrong_numbers(kernel):
    assert not reverse(kernel(REVERSE.replace("BARRIER;", "", 1)))


def test_a_missing_barrier_before_reuse_gives_wrong_numbers(kernel):
    first, second, rest = REVERSE.split("BARRIER;")
    assert not reverse(kernel(first + "BARRIER;" + second + rest))


def test_a_barrier_that_not_all_threads_reach_is_an_error(kernel):
    family = kernel("KERNEL odd(real *x) {\n if (threadIdx.x % 2)\n BARRIER;\n x[0] = 1; }")
    message = "in block 0 the lines are 0 for thread 0 and 4 for thread 1"
    with pytest.raises(RuntimeError, match=message):
        device.launch(family, "odd", 1, on_host(0))


def test_threads_that_wait_at_different_barriers_are_an_error(kernel):
    family = kernel("KERNEL two(real *x) {\n if (threadIdx.x % 2)\n BARRIER;\n else\n BARRIER; }")
    with pytest.raises(RuntimeError, match="kernel two of own.cu: .* 6 for thread 0 and 4 for"):
        device.launch(family, "two", 1, on_host(0))
    with pytest.raises(RuntimeError, match="4 for thread 1"):  # and again, from afresh
        device.launch(family, "two", 1, on_host(0))


def test_shared_memory_is_nan_before_each_block_writes_it(kernel, monkeypatch):
    monkeypatch.setattr(host, "grid", (3, 1))
    family = kernel("KERNEL peek(real *x) { SHARED real s[3]; x[blockIdx.x] = s[1]; s[1] = 2; }")
    x = on_host(0, 0, 0)
    device.launch(family, "peek", 3, x)
    assert np.isnan(x.get()).all()


def test_every_element_is_taken_once_at_any_launch_size(kernel, monkeypatch):
    family = kernel("KERNEL count(real *y, i64 n) { STRIDED(i, n) y[i] += 1; }")
    for grid in ((1, 1), (3, 8), (7, 33), (2, 256)):
        monkeypatch.setattr(host, "grid", grid)
        y = on_host(*[0] * 101)
        device.launch(family, "count", 100, y, 100)
        assert y.get().tolist() == [1] * 100 + [0]


@pytest.mark.parametrize("threads", [1, 2, 3, 8, 13, 256])
def test_block_reductions_take_every_thread_at_any_block_size(kernel, monkeypatch, threads):
    family = kernel("""
KERNEL reduce(const real *x, real *sum, real *greatest) {
    SHARED real shared[BLOCK];
    real total = block_sum(x[threadIdx.x], shared), most = block_max(x[threadIdx.x], shared);
    sum[threadIdx.x] = total;
    greatest[threadIdx.x] = most;
}
""")
    monkeypatch.setattr(host, "grid", (1, threads))
    values = np.random.default_rng(0).normal(size=threads)
    x, total, most = (kernels.to(a, "host") for a in (values, values, values))
    device.launch(family, "reduce", 1, x, total, most)
    np.testing.assert_allclose(total.get(), values.sum(), rtol=1e-12, atol=1e-12)
    assert (most.get() == values.max()).all()


def test_no_work_launches_nothing(kernel):
    family = kernel("KERNEL touch(real *x) { x[0] = 1; }")
    x = on_host(0)
    device.launch(family, "touch", 0, x)
    device.launch_blocks(family, "touch", 0, x)
    assert x.get()[0] == 0


# HostArray


def test_a_host_array_has_the_interface_of_a_gpu_array():
    a = np.arange(24, dtype="f4").reshape(2, 3, 4)
    x = kernels.to(a, "host")
    assert not isinstance(x, np.ndarray)
    assert (x.shape, x.dtype, x.strides, x.ndim) == (a.shape, a.dtype, a.strides, 3)
    assert (x.size, x.nbytes, x.itemsize, len(x)) == (24, 96, 4, 2)
    assert isinstance(x.gpudata, int)
    assert x.flags.c_contiguous and not x.T.flags.c_contiguous and x.T.flags.f_contiguous
    assert (x.T.get() == a.T).all()
    assert (x.transpose((1, 0, 2)).get() == a.transpose(1, 0, 2)).all()
    assert (x.reshape(6, -1).get() == a.reshape(6, 4)).all()
    assert (x.reshape((4, 6)).get() == a.reshape(4, 6)).all()
    assert (x[1, :, ::2].get() == a[1, :, ::2]).all()
    assert x[1, 2, 3].shape == () and x[..., 0].shape == (2, 3) and x[:0].shape == (0, 3, 4)
    assert repr(x) == "HostArray((2, 3, 4), float32)"


def test_slices_of_a_host_array_are_views_and_get_is_a_copy():
    x = on_host(1, 2, 3)
    x[1:].set(np.array([8, 9], "f4"))
    taken = x.get()
    taken[0] = 7
    assert x.get().tolist() == [1, 8, 9]
    assert x[1:].gpudata == x.gpudata + 4


def test_a_new_array_of_the_host_is_nan():
    x = kernels.package("cuda").empty(on_host(1), (2, 2), "f8")
    assert np.isnan(x.get()).all()


REFUSED = {
    "a function of NumPy": lambda x: np.concatenate([x, x]),
    "a universal function": np.exp,
    "conversion": np.asarray,
    "addition": lambda x: x + 1,
    "addition from the right": lambda x: 1 + x,
    "addition of an ndarray": lambda x: np.ones(3) + x,
    "addition in place": lambda x: x.__iadd__(1),
    "a matrix product": lambda x: x @ x,
    "comparison": lambda x: x == 0,
    "truth": bool,
    "iteration": list,
    "assignment": lambda x: x.__setitem__(0, 1),
    "a mask": lambda x: x[np.array([True, False, True])],
    "a list of indices": lambda x: x[[0, 1]],
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED)
def test_a_host_array_refuses(use):
    with pytest.raises(TypeError):
        use(on_host(1, 2, 3))


def test_a_refusal_says_what_to_use():
    with pytest.raises(
        TypeError, match=r"__array__ does not take HostArray\(\(3,\), float32\).*of"
    ):
        np.asarray(on_host(1, 2, 3))


def test_what_does_not_fit_a_host_array_is_refused():
    with pytest.raises(ValueError, match=r"takes an ndarray of its shape .* got ndarray \(2,\)"):
        on_host(1, 2, 3).set(np.ones(2, "f4"))
    with pytest.raises(RuntimeError, match="must be contiguous to be reshaped"):
        on_host(1, 2, 3)[::2].reshape(2, 1)


# Arrays

STRIDED = {
    "transposed": lambda a: a.T,
    "every second": lambda a: a[:, 1::2, :, ::3],
    "reversed axes": lambda a: a.transpose((2, 0, 3, 1)),
    "one element": lambda a: a[1:2, 1:2, 2:3, 3:4],
    "nothing": lambda a: a[:, :0],
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1", "f2"])
@pytest.mark.parametrize("view", STRIDED.values(), ids=STRIDED)
def test_strided_arrays_are_copied_and_written(view, dtype):
    a = np.arange(2 * 5 * 3 * 7).reshape(2, 5, 3, 7).astype(dtype)
    x = kernels.to(a, "host")
    k = kernels.of(x)
    assert (k.copy(view(x)).get() == view(a)).all()
    k.assign(view(x), k.array(x, np.ascontiguousarray(view(a)[::-1])))
    view(a)[...] = np.ascontiguousarray(view(a)[::-1])
    assert (x.get() == a).all()
    k.fill(view(x), 3)
    view(a)[...] = 3
    assert (x.get() == a).all()


def test_an_array_is_broadcast_and_accumulated():
    a, b = np.arange(24.0).reshape(2, 3, 4), np.arange(3.0).reshape(3, 1)
    x, y = kernels.to(a, "host"), kernels.to(b, "host")
    k = kernels.of(x)
    k.accumulate(x, y)
    assert (x.get() == a + b).all()
    k.assign(x, y)
    assert (x.get() == b + 0 * a).all()
    with pytest.raises(ValueError, match=r"shape \(3, 1\) cannot take one of shape \(2, 3, 4\)"):
        k.assign(y, x)
    with pytest.raises(TypeError, match="floats of one dtype — got float64 and float32"):
        k.accumulate(x, k.cast(y, "f4"))


@pytest.mark.parametrize("to", ["f4", "f8", "i4", "i8", "u1"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
def test_a_cast_agrees_with_numpy(dtype, to):
    a = np.array([0, 1, 7, 200], dtype)
    y = kernels.package("cuda").cast(kernels.to(a, "host"), to)
    assert y.dtype == to and (y.get() == a.astype(to)).all()


def test_a_cast_names_the_dtype_that_it_lacks():
    with pytest.raises(TypeError, match="takes float32, .* — got float16"):
        kernels.package("cuda").cast(on_host(1), "f2")


def test_more_dimensions_than_a_strided_copy_takes_are_an_error():
    x = kernels.to(np.zeros((2,) * 7, "f4"), "host")
    with pytest.raises(ValueError, match="at most 6 dimensions"):
        kernels.of(x).copy(x.T)


# Launches

SCALE = "KERNEL scale(const real *x, const int *index, real *y, i64 n, real by) { y[0] = by; }\n"

WRONG = {
    "too few": (("x", None, "x", 1), r"takes \(x, index, y, n, by\) — got 4 arguments"),
    "an ndarray": ((np.ones(1), None, "x", 1, 1.0), "x must be an array on a device .*ndarray"),
    "another dtype": (("x", None, "double", 1, 1.0), "y must be float32 — got float64"),
    "floats for indices": (("x", "x", "x", 1, 1.0), "index must be int32 — got float32"),
    "integers for floats": (("int", None, "int", 1, 1.0), "x must be float32 or float64"),
    "strides": (("x", None, "strided", 1, 1.0), "y must be contiguous"),
    "a float for an integer": (("x", None, "x", 1.5, 1.0), "n must be an integer — got 1.5"),
    "text for a number": (("x", None, "x", 1, "1e"), "by must be a number — got '1e'"),
    "no array": ((None, None, None, 1, 1.0), "must be given an array — got none"),
}


@pytest.mark.parametrize("arguments, message", WRONG.values(), ids=WRONG)
def test_the_arguments_of_a_launch_are_checked(kernel, arguments, message):
    arrays = {
        "x": on_host(1, 2),
        "double": on_host(1, 2, dtype="f8"),
        "int": on_host(1, 2, dtype="i4"),
        "strided": on_host(1, 2, 3)[::2],
    }
    arguments = [arrays.get(a, a) if isinstance(a, str) else a for a in arguments]
    with pytest.raises(TypeError, match=f"kernel scale of own.cu: {message}"):
        device.launch(kernel(SCALE), "scale", 1, *arguments)


def test_the_dtype_of_the_arrays_chooses_the_kernel(kernel):
    family = kernel(SCALE)
    for dtype in ("f4", "f8"):
        y = on_host(0, dtype=dtype)
        device.launch(family, "scale", 1, None, on_host(0, dtype="i4"), y, 1, 0.1)
        assert y.get()[0] == np.dtype(dtype).type(0.1)


def test_a_kernel_that_is_not_there_is_named(kernel):
    with pytest.raises(ValueError, match="own.cu must have a kernel turn — it has none"):
        device.launch(kernel(SCALE), "turn", 1)


def test_a_parameter_of_another_kind_is_named(kernel):
    family = kernel("KERNEL bad(const real *x, unsigned n) { }")
    with pytest.raises(SyntaxError, match="own.cu: kernel bad: .* got 'unsigned n'"):
        device.launch(family, "bad", 1, on_host(1), 1)


PAIR = """
struct Pair { i64 first, second; };
KERNEL pair(real *y, struct Pair p) { y[0] = p.first; y[1] = p.second; }
"""


def test_a_struct_reaches_the_kernel_by_its_names(kernel):
    family, y = kernel(PAIR), on_host(0, 0)
    device.launch(family, "pair", 1, y, source.record(family, "Pair", second=7, first=-2))
    assert y.get().tolist() == [-2, 7]
    with pytest.raises(TypeError, match="p must be bytes .* got tuple"):
        device.launch(family, "pair", 1, y, (1, 2))


def test_a_team_computes_the_same_at_any_number_of_threads(kernel, monkeypatch):
    family = kernel("""
KERNEL_OF(64, 1) turn(real *y) {
    SHARED real all[64];
    real mine[PLAYED(64)];
    WORKERS(i, 64) mine[OWN(i)] = i;
    BARRIER;
    WORKERS(i, 64) all[63 - i] = mine[OWN(i)];
    BARRIER;
    WORKERS(i, 64) y[i] = all[i];
}
""")
    assert source.threads(family) == {"turn": 64}
    for threads in (1, 7, 64, 100):
        monkeypatch.setattr(host, "grid", (1, threads))
        y = on_host(*[0] * 64)
        device.launch(family, "turn", 1, y)
        assert y.get().tolist() == [*range(63, -1, -1)]


# Compilation


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of compiled kernels."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path))
    return tmp_path / "kernels"


def test_a_source_is_compiled_once_and_again_when_it_changes(kernel, cache):
    family, dtype = kernel(SCALE), np.dtype("f4")
    first = source.host_library(family, dtype)
    stamp = first.stat().st_mtime_ns
    assert source.host_library(family, dtype) == first and first.stat().st_mtime_ns == stamp
    kernel(SCALE.replace("= by", "= 2 * by"))
    assert source.host_library(family, dtype) != first
    assert len(list(cache.iterdir())) == 2


def test_two_processes_may_compile_the_same_at_once(kernel, cache):
    code = (
        "import numpy as np, sys; from flambeau.kernels.cuda import source;"
        "source.host_library(sys.argv[1], np.dtype('f4'))"
    )
    command = [sys.executable, "-c", code, kernel(SCALE)]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_the_compilers_words_are_shown_and_nothing_is_kept(kernel, cache):
    family = kernel("KERNEL bad(real *x) { x[0] = nowhere; }")
    with pytest.raises(RuntimeError, match=r"own.cu does not compile:(.|\n)*nowhere"):
        device.launch(family, "bad", 1, on_host(1))
    assert list(cache.iterdir()) == []


def test_a_compiler_that_is_not_there_is_named(kernel, cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no-such-compiler must be installed .* or set CXX"):
        device.launch(kernel(SCALE), "scale", 1, None, None, on_host(1), 1, 1.0)


def test_a_gpu_without_its_software_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(RuntimeError, match='a GPU needs pycuda .* or use the device "host"'):
        kernels.to(np.ones(3, "f4"), "cuda")


@pytest.mark.parametrize("family", source.families())
def test_every_source_compiles_for_the_host_without_warnings(family, monkeypatch):
    monkeypatch.setenv("CXX", "g++ -Werror -Wno-unused-function")
    assert source.host_library(family, np.dtype("f4")).exists()


if HAS_NVCC:

    @pytest.mark.parametrize("dtype", ["f4", "f8"])
    @pytest.mark.parametrize("family", source.families())
    def test_every_source_compiles_for_a_gpu_without_warnings(family, dtype):
        options = "-Werror", "all-warnings"
        assert source.cubin(family, np.dtype(dtype), "sm_90", *options).exists()


# Products of matrices have tiles of several sizes, convolution has two forms

TILES = [tile[:2] for tile in product.tiles]


def planned(tile, parts):
    """A plan that always takes this tile and so many parts."""

    def plan(rows, columns, depth, groups):
        blocks = groups * -(-rows // tile[0]) * -(-columns // tile[1]) * parts
        return tile, parts, blocks

    return plan


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("sizes", [(3, 5, 2), (130, 70, 36), (68, 132, 300), (200, 4, 24)])
def test_products_in_any_tiles_and_orders_agree_with_numpy(sizes, tile, parts, monkeypatch):
    monkeypatch.setattr(product, "plan", planned(tile, parts))
    product._product.cache_clear()
    m, n, depth = sizes
    generator = np.random.default_rng(0)
    a, b, bias, c = (generator.normal(size=s) for s in ((m, depth), (depth, n), (n,), (m, n)))
    on = [kernels.to(np.ascontiguousarray(x), "host") for x in (a, a.T, b, b.T, bias, c)]
    for x, x_strides in ((on[0], (depth, 1)), (on[1], (1, m))):
        for w, w_strides in ((on[2], (n, 1)), (on[3], (1, depth))):
            y = kernels.of(x).empty(x, (m, n), "f8")
            product.product(x, w, on[4], on[5], y, sizes, x_strides, w_strides)
            np.testing.assert_allclose(y.get(), a @ b + bias + c, rtol=0, atol=1e-12)
            product.product(x, w, None, y, y, sizes, x_strides, w_strides)
            np.testing.assert_allclose(y.get(), 2 * (a @ b) + bias + c, rtol=0, atol=1e-12)
    product._product.cache_clear()


def test_a_plan_fills_the_processors_with_large_tiles_or_with_parts():
    assert product.plan(512, 100000, 4608, 1)[:2] == ((128, 128), 1)
    assert product.plan(64, 10**6, 576, 1)[:2] == ((64, 128), 1)
    tile, parts, blocks = product.plan(512, 196, 4608, 1)
    assert parts > 1 and blocks > 100
    assert product.plan(3, 3, 3, 2)[1:] == (1, 2)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(
    "shape, w_shape, options",
    [
        ((2, 4, 9, 7), (6, 2, 3, 2), ((2, 1), (1, 2), (1, 2), 2)),
        ((2, 4, 6, 7), (4, 1, 3, 3), ((2, 3), (0, 1), (1, 1), 4)),
        ((3, 70, 5, 4), (66, 70, 2, 1), ((1, 2), (1, 0), (2, 1), 1)),
        ((2, 40, 6, 6), (72, 40, 3, 3), ((1, 1), (1, 1), (1, 1), 1)),
        ((3, 72, 6, 8), (68, 36, 1, 1), ((1, 1), (0, 0), (1, 1), 2)),
        ((2, 6, 5, 5), (5, 6, 1, 1), ((2, 2), (0, 0), (1, 1), 1)),
        ((0, 3, 5, 5), (4, 3, 3, 3), ((1, 1), (0, 0), (1, 1), 1)),
    ],
)
def test_both_forms_of_the_convolution_agree(shape, w_shape, options, tile, parts, monkeypatch):
    generator = np.random.default_rng(0)
    x, w, b = (generator.normal(size=s) for s in (shape, w_shape, w_shape[:1]))
    x, w, b = (kernels.to(a, "host") for a in (x, w, b))
    k = kernels.of(x)
    monkeypatch.setattr(conv, "plan", planned(tile, parts))
    results = []
    for few in (10**6, 0):
        monkeypatch.setattr(conv, "few_channels", few)
        y = k.conv2d(x, w, b, *options)
        dy = k.array(x, np.random.default_rng(1).normal(size=y.shape))
        fused = k.conv2d_fused(x, w, b, dy, -0.5, 0.75, *options)
        dw, db = k.zeros(x, w.shape, "f8"), k.zeros(x, b.shape, "f8")
        k.fill(dw, 1)
        dx = k.conv2d_backward(x, dy, w, dw, db, x, *options, True)
        results.append([a.get() for a in (y, fused, dx, dw, db)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("size", [(4, 6), (3, 3)])
def test_joined_convolutions_are_their_concatenation(size, parts, few, monkeypatch):
    monkeypatch.setattr(conv, "few_channels", few)
    monkeypatch.setattr(conv, "plan", planned((64, 64), parts))
    generator = np.random.default_rng(0)
    shapes = (2, 9, *size), (5, 9, 1, 1), (7, 9, 3, 3), (5,), (7,)
    x, w, w2, b, b2 = (kernels.to(generator.normal(size=s), "host") for s in shapes)
    k = kernels.of(x)
    options = [((1, 1), (0, 0), (1, 1), 1), ((1, 1), (1, 1), (1, 1), 1)]
    y = k.conv2d_joined([x, x], [w, w2], [b, b2], [(0.0, None), (None, 1.0)], options)
    one = np.maximum(k.conv2d(x, w, b, *options[0]).get(), 0)
    two = np.minimum(k.conv2d(x, w2, b2, *options[1]).get(), 1)
    np.testing.assert_allclose(y.get(), np.concatenate([one, two], 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("few", [0, 10**6])
def test_a_padding_of_four_sides_is_that_of_a_padded_image(few, monkeypatch):
    monkeypatch.setattr(conv, "few_channels", few)
    generator = np.random.default_rng(0)
    x, w = (kernels.to(generator.normal(size=s), "host") for s in ((2, 3, 6, 7), (4, 3, 3, 2)))
    k = kernels.of(x)
    y = k.conv2d_fused(x, w, None, None, None, None, (2, 1), (1, 0, 2, 3), (1, 1), 1)
    padded = k.pad2d(x, (0, 3, 1, 2))
    expected = k.conv2d(padded, w, None, (2, 1), (0, 0), (1, 1), 1)
    np.testing.assert_allclose(y.get(), expected.get(), rtol=0, atol=1e-12)


def test_an_image_that_is_not_aligned_is_convolved_as_it_is():
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(9, 4, 4)).astype("f4"), generator.normal(size=(8, 8, 1, 1))
    flat = kernels.to(np.concatenate([[0], x.reshape(-1)]).astype("f4"), "host")
    shifted, w = flat[1:129].reshape(1, 8, 4, 4), kernels.to(w.astype("f4"), "host")
    assert shifted.gpudata % 16 == 4
    whole = kernels.of(w).copy(shifted)
    options = None, (1, 1), (0, 0), (1, 1), 1
    y, expected = (kernels.of(w).conv2d(a, w, *options) for a in (shifted, whole))
    np.testing.assert_allclose(y.get(), expected.get(), rtol=0, atol=1e-5)


def test_a_window_of_many_rows_and_columns_is_convolved():
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(2, 8, 3, 70)), generator.normal(size=(9, 8, 2, 61))
    y = kernels.package("cuda").conv2d(
        *(kernels.to(a, "host") for a in (x, w)), None, (1, 1), (0, 2), (1, 1), 1
    )
    expected = kernels.package("reference").conv2d(x, w, None, (1, 1), (0, 2), (1, 1), 1)
    np.testing.assert_allclose(y.get(), expected, rtol=0, atol=1e-11)


def test_numbers_that_are_not_those_of_a_struct_are_refused():
    with pytest.raises(TypeError, match="struct Product has the fields m, n, .* — got m, k"):
        source.record("product", "Product", m=1, k=2)


# What the generic tests are worth


@pytest.mark.parametrize("mutant", [pytest.param(m, id=m.name) for m in MUTANTS])
def test_the_tests_on_the_host_catch_a_seeded_defect(mutant):
    assert mutant.outcome() == "caught"
