"""What must hold of every module, over every row of tests/cases and every device."""

import re

import numpy as np
import pytest

from flambeau import kernels, nn

from cases import every

ROWS = [
    pytest.param(case, id=f"{family}-{case.text}-{i}") for i, (family, case) in enumerate(every())
]
each = pytest.mark.parametrize("case", ROWS)


def every_row(wanted):
    """The rows for which wanted(case) is true."""
    return pytest.mark.parametrize("case", [row for row in ROWS if wanted(row.values[0])])


def flat(y):
    """The arrays in a nested tuple, as ndarrays."""
    if isinstance(y, tuple):
        return [a for v in y for a in flat(v)]
    return [kernels.of(y).numpy(y)]


def spread(function, y):
    """The function applied to each array of a nested tuple."""
    return tuple(spread(function, v) for v in y) if isinstance(y, tuple) else function(y)


def move(x, device):
    """x on a device of the tests."""
    where = "cpu" if device in ("reference", "cpu") else device
    return spread(lambda a: kernels.to(a, where), x)


def put(module, device):
    """The module on a device of the tests."""
    return module if device in ("reference", "cpu") else module.to(device)


def gradient(y, seed=9):
    """A random dy for the output y, on its device."""
    generator = np.random.default_rng(seed)

    def draw(a):
        values = generator.normal(size=a.shape).astype(a.dtype)
        return kernels.of(a).array(a, values)

    return spread(draw, y)


def run(case, device, dtype=np.float32, x=None):
    """One forward and backward: (y, dx, gradients) as lists of ndarrays."""
    module = put(case.make().astype(dtype), device)
    x = move(case.draw(dtype) if x is None else x, device)
    nn.seed(1)
    y = module(x)
    dx = module.backward(x, gradient(y))
    return flat(y), flat(dx), flat(tuple(module.gradients()))


def close(got, expected, tolerance):
    """Arrays agree to a tolerance relative to the largest value."""
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0)))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)


@each
def test_backward_agrees_with_calculus(case, device):
    module = put(case.make(), device)
    x = move(case.draw(), device)
    nn.gradcheck(module, *(x if isinstance(x, tuple) else (x,)))


@each
def test_backward_agrees_with_calculus_in_evaluation(case, device):
    module = put(case.make(), device).eval()
    x = move(case.draw(), device)
    nn.gradcheck(module, *(x if isinstance(x, tuple) else (x,)))


@each
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("other", ["cpu", "host", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_devices_agree_with_the_reference(case, other, dtype):
    with kernels.use("reference"):
        expected = run(case, "reference", dtype)
    with kernels.use("cpu" if other == "cpu" else "reference"):
        got = run(case, other, dtype)
    tolerance = 2e-5 if dtype == "f4" else 1e-12
    for a, b in zip(got, expected, strict=True):
        close(a, b, tolerance)


@each
def test_gradients_accumulate(case, device):
    module = put(case.make(), device)
    x = move(case.draw(), device)
    dy = gradient(module(x))
    module.backward(x, dy)
    once = [a.copy() for a in flat(tuple(module.gradients()))]
    module.backward(x, dy)
    close(flat(tuple(module.gradients())), [2 * a for a in once], 1e-5)
    module.zero_grad()
    assert all(not a.any() for a in flat(tuple(module.gradients())))


@each
def test_results_are_the_callers(case, device):
    module = put(case.make(), device)
    x = move(case.draw(), device)
    y = module(x)
    dx = module.backward(x, gradient(y))
    before = [a.copy() for a in flat((y, dx))]
    other = move(case.draw(seed=6), device)
    module.backward(other, gradient(module(other)))
    assert all((a == b).all() for a, b in zip(flat((y, dx)), before, strict=True))


@each
def test_inputs_are_left_as_they_were(case, device):
    module = put(case.make(), device)
    x = move(case.draw(), device)
    before = [a.copy() for a in flat(x)]
    y = module(x)
    dy = gradient(y)
    dy_before = [a.copy() for a in flat(dy)]
    module.backward(x, dy)
    assert all((a == b).all() for a, b in zip(flat(x), before, strict=True))
    assert all((a == b).all() for a, b in zip(flat(dy), dy_before, strict=True))


def strided(a, device):
    """The array on a device of the tests, as every second one of a transposed view."""
    if a.dtype.kind != "f" or a.ndim == 0:
        return move(a, device)
    wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), 7, a.dtype)
    wide[..., 1::2] = a
    return move(np.ascontiguousarray(wide.T), device).T[..., 1::2]


@each
def test_strided_inputs_give_the_same(case, device):
    module = put(case.make(), device)
    x = case.draw()
    nn.seed(1)
    y = module(move(x, device))
    dy = gradient(y)
    dx = module.backward(move(x, device), dy)
    expected = [flat(v) for v in (y, dx, tuple(module.gradients()))]
    module.zero_grad()
    twisted = spread(lambda a: strided(a, device), x)
    nn.seed(1)
    y = module(twisted)
    dx = module.backward(twisted, spread(lambda a: strided(kernels.to(a, "cpu"), device), dy))
    for a, b in zip([flat(v) for v in (y, dx, tuple(module.gradients()))], expected, strict=True):
        close(a, b, 1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("package", ["reference", "cpu"])
@every_row(lambda case: case.make().parameters())
def test_strided_parameters_and_gradients_give_the_same(case, package, dtype):
    def once(arrange):
        module = case.make().astype(dtype)
        for part in module.modules():
            for name in part.params:
                for key in (name, "grad_" + name):
                    if getattr(part, key) is not None:
                        setattr(part, key, arrange(getattr(part, key)))
        x = case.draw(np.dtype(dtype))
        nn.seed(1)
        for _ in range(2):  # the second adds to the first's gradients
            y = module(x)
            dx = module.backward(x, gradient(y))
        return flat(y), flat(dx), flat(tuple(module.gradients()))

    with kernels.use(package):
        expected = once(np.copy)
        got = once(lambda a: strided(a, "cpu"))
    for a, b in zip(got, expected, strict=True):
        close(a, b, 1e-5)


def channels_last(a):
    """Images with their channels innermost in memory; other arrays as they are."""
    if a.dtype.kind != "f" or a.ndim != 4:
        return a
    return np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)


@each
@pytest.mark.parametrize("package", ["reference", "cpu"])
def test_channels_last_memory_gives_the_same(case, package):
    if all(a.ndim != 4 for a in flat(case.draw())):
        return

    def once(arrange):
        module = case.make()
        nn.seed(1)
        x = spread(arrange, case.draw())
        y = module(x)
        dx = module.backward(x, spread(arrange, gradient(y)))
        moved = [np.asarray(a) for _, a in module.named_buffers()]
        return flat(y), flat(dx), flat(tuple(module.gradients())), moved

    with kernels.use(package):
        expected = once(np.copy)
        got = once(channels_last)
    for a, b in zip(got, expected, strict=True):
        close(a, b, 1e-5)


KEEP_MEMORY = """
    GELU() Hardtanh()
    ReLU() ReLU6() LeakyReLU() ELU() Sigmoid() Tanh() Softplus() PReLU() PReLU(37) Softmax() Exp()
    Abs() Power(2) Affine(2.0,1.0) Scale(37) BatchNorm2d(37) BatchNorm2d(37,affine=False) Dropout()
    MaxPool2d(3,2,1) MaxPool2d(2,dilation=2) MaxPool2d(3,2,ceil_mode=True) MaxPool2d((2,3),(3,1))
    AvgPool2d(3,2,1) AvgPool2d(2) AvgPool2d(3,2,1,True,False) AvgPool2d((2,3),(3,1))
    AdaptiveAvgPool2d(3) AdaptiveAvgPool2d((2,None)) AdaptiveAvgPool2d(11) LocalResponseNorm(5)
    LocalResponseNorm(4,0.5,0.6,2.0) LocalResponseNorm(3,1.5,region='within') ZeroPad2d((1,2,0,-1))
    Concat(1,ReLU(),Sigmoid(),Identity()) ConcatTable(ReLU(),Sigmoid())
""".split()


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(2, 37, 9, 7), (1, 37, 31, 33), (3, 600, 10, 11)], ids=str)
@pytest.mark.parametrize("text", KEEP_MEMORY)
def test_channels_last_memory_stays_channels_last(text, shape, dtype):
    def once(package, arrange):
        generator = np.random.default_rng(5)
        with kernels.use(package):
            module = eval(text.replace("37", str(shape[1])), vars(nn)).astype(dtype)
            nn.seed(1)
            x = arrange(generator.normal(size=shape).astype(dtype))
            y = module(x)
            dx = module.backward(x, spread(arrange, gradient(y)))
            return flat(y), flat(dx), flat(tuple(module.gradients()))

    expected = once("reference", np.copy)
    y, dx, gradients = once("cpu", channels_last)
    assert all(a.transpose(0, 2, 3, 1).flags.c_contiguous for a in y + dx)
    for a, b in zip((y, dx, gradients), expected, strict=True):
        close(a, b, 2e-5 if dtype == "f4" else 1e-12)


@pytest.mark.parametrize("most", ["C", "channels-last"])
def test_joined_images_have_the_memory_order_of_most(most):
    generator = np.random.default_rng(5)
    xs = [generator.normal(size=(2, c, 5, 4)).astype("f4") for c in (3, 20, 2)]
    turned = [channels_last(x) if (x.shape[1] == 20) == (most != "C") else x for x in xs]
    with kernels.use("cpu"):
        y = nn.JoinTable(1)(*turned)
    assert y.flags.c_contiguous == (most == "C")
    assert (y == np.concatenate(xs, 1)).all()


def test_statistics_of_channels_last_images_are_exact_where_the_mean_is_large():
    x = np.random.default_rng(5).normal(1e4, 1, (4, 6, 50, 40)).astype("f4")
    with kernels.use("cpu"):
        y = nn.BatchNorm2d(6)(channels_last(x))
    exact = x - x.mean((0, 2, 3), dtype="f8", keepdims=True)
    exact /= np.sqrt(np.square(exact).mean((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, exact, rtol=0, atol=1e-3)


@every_row(lambda case: case.empty)
def test_an_empty_batch_passes(case, device):
    module = put(case.make(), device).eval()
    shapes = [s[:0] if isinstance(s, np.ndarray) else (0, *s[1:]) for s in case.inputs]
    x = move(case.draw(shapes=shapes), device)
    y = module(x)
    assert all(a.size == 0 for a in flat(y))
    dx = module.backward(x, y)
    assert [a.shape for a in flat(dx)] == [a.shape for a in flat(x)]
    assert all(not a.any() for a in flat(tuple(module.gradients())))


@each
def test_frozen_modules_pass_the_gradient_and_keep_none(case, device):
    module = put(case.make(), device).eval()
    x = move(case.draw(), device)
    y = module(x)
    expected = flat(module.backward(x, gradient(y)))
    module.freeze()
    close(flat(module(x)), flat(y), 0)
    close(flat(module.backward(x, gradient(y))), expected, 0)
    assert all(g is None for g in module.gradients())


@each
def test_the_gradient_of_the_input_can_be_left_out(case, device):
    module = put(case.make(), device)
    x = move(case.draw(), device)
    nn.seed(1)
    dy = gradient(module(x))
    module.backward(x, dy)
    expected = [a.copy() for a in flat(tuple(module.gradients()))]
    module.zero_grad()
    module.want_dx = False
    nn.seed(1)
    module(x)
    dx = module.backward(x, dy)
    assert dx is None or not module.parameters()
    close(flat(tuple(module.gradients())), expected, 0)


@each
def test_evaluation_keeps_nothing(case, device):
    module = put(case.make(), device)
    x = move(case.draw(), device)
    module(x)
    module.eval()
    module(x)
    assert all(m.saved is None for m in module.modules())


@each
def test_saved_networks_come_back(case, tmp_path):
    module = case.make()
    x = case.draw()
    module(x)  # moves the running statistics
    module.eval()
    expected = flat(module(x))
    module.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert repr(again) == repr(module)
    close(flat(again(x)), expected, 0)


@each
def test_the_repr_is_the_constructor_call(case):
    module = case.make()
    assert module.children() or repr(module) == case.text
    assert case.text.split("(")[0] in repr(module)


@every_row(lambda case: case.wrong)
def test_wrong_shapes_are_refused_by_name(case, device):
    module = put(case.make(), device)
    for shapes in case.wrong:
        shapes = shapes if shapes and isinstance(shapes[0], tuple) else (shapes,)
        with pytest.raises(ValueError, match="got") as caught:
            module(move(case.draw(shapes=shapes), device))
        assert re.match(r"\w+\(", str(caught.value)), "the message must begin with who"


@each
def test_clones_have_arrays_of_their_own(case):
    module = case.make()
    x = case.draw()
    module.eval()
    expected = [a.copy() for a in flat(module(x))]
    twin = module.clone()
    for array in twin.parameters():
        array += 1
    close(flat(module(x)), expected, 0)
    assert len(twin.parameters()) == len(module.parameters())


@each
def test_the_dtype_is_kept(case, device):
    for dtype in ("f4", "f8"):
        y, dx, grads = run(case, device, dtype)
        assert {a.dtype for a in y + dx + grads if a.dtype.kind == "f"} <= {np.dtype(dtype)}


INTEGERS = [
    "AdaptiveAvgPool2d(1)",
    "AvgPool2d(2)",
    "BatchNorm2d(3)",
    "ConvTranspose2d(3, 2, 1)",
    "Dropout(0.3)",
    "GELU()",
    "LogSoftmax(1)",
    "Scale(3)",
    "Sigmoid()",
    "Softmax(1)",
]


@pytest.mark.parametrize("text", INTEGERS)
def test_integers_are_refused_where_they_would_be_cut_off(text):
    with pytest.raises(ValueError, match=r"x must hold floats; .* — got x \(2, 3, 4, 4\) uint8"):
        eval(text, vars(nn))(np.ones((2, 3, 4, 4), "u1"))


LAYERS = [
    *INTEGERS,
    "Abs()",
    "Clamp(-1, 1)",
    "Conv2d(3, 2, 3)",
    "ELU()",
    "Exp()",
    "Hardtanh()",
    "LeakyReLU(0.1)",
    "Linear(4, 2)",
    "LocalResponseNorm(3)",
    "Log()",
    "MaxOver(1)",
    "MaxPool2d(2)",
    "PReLU(3)",
    "Power(2)",
    "ReLU()",
    "ReLU6()",
    "Softplus()",
    "SumOver(1)",
    "Tanh()",
    "ZeroPad2d(1)",
]


@pytest.mark.parametrize("text", LAYERS)
def test_a_gradient_of_another_shape_than_the_output_is_refused(text, device):
    module = put(eval(text, vars(nn)), device)
    x = move(np.ones((2, 3, 4, 4), "f4"), device)
    y = module(x)
    with pytest.raises(ValueError, match="dy must have the shape of y"):
        module.backward(x, kernels.of(y).zeros(y, y.shape[1:], y.dtype))


@each
def test_inputs_at_odd_addresses_give_the_same(case):
    def shifted(a):
        y = np.zeros(a.nbytes + 1, "u1")[1:].view(a.dtype).reshape(a.shape)
        y[...] = a
        return y

    module = case.make().eval()
    x = case.draw()
    close(flat(module(spread(shifted, x))), flat(module(x)), 1e-6)
