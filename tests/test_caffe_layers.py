"""Every layer of Caffe against its definition, from a prototxt and a caffemodel written here."""

import math
import subprocess
import sys

import numpy as np
import pytest

from flambeau import kernels, nngraph
from flambeau.zoo import FormatError, caffe, caffe_pb2


@pytest.fixture(autouse=True)
def reference():
    """These are small: what is tested is the reader, not the kernels."""
    with kernels.use("reference"):
        yield


def numbers(*shape):
    return np.random.default_rng(math.prod(shape)).standard_normal(shape).astype("f4")


def load(folder, text, shape, blobs=None, **options):
    """The network of one text, `shape` that of its input "data", blobs {layer: [arrays]}."""
    dims = " ".join(f"dim: {size}" for size in shape)
    path = folder / "net.prototxt"
    path.write_text(f'input: "data" input_shape {{ {dims} }} {text}')
    if blobs is None:
        return caffe.load(path, **options)
    net = caffe_pb2.NetParameter()
    for name, arrays in blobs.items():
        layer = net.layer.add(name=name, type="X")
        for array in arrays:
            blob = layer.blobs.add(data=array.ravel().tolist())
            blob.shape.dim.extend(array.shape)
    weights = folder / "net.caffemodel"
    weights.write_bytes(net.SerializeToString())
    return caffe.load(path, weights, **options)


def layer(kind, options="", tops=("y",), bottoms=("data",)):
    wires = "".join(f'bottom: "{b}" ' for b in bottoms) + "".join(f'top: "{t}" ' for t in tops)
    return f'layer {{ name: "it" type: "{kind}" {wires} {options} }} '


def convolve(x, w, b, stride, pad, dilation, group):
    """y[n, k, i, j] = sum of w[k] * the window of x at (i, j), Caffe's ConvolutionLayer."""
    x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2))
    k, c, p, q = w.shape
    spans = dilation[0] * (p - 1) + 1, dilation[1] * (q - 1) + 1
    size = [(x.shape[2 + a] - spans[a]) // stride[a] + 1 for a in (0, 1)]
    y = np.zeros((len(x), k, *size))
    for i, j in np.ndindex(*size):
        rows = slice(i * stride[0], i * stride[0] + spans[0], dilation[0])
        columns = slice(j * stride[1], j * stride[1] + spans[1], dilation[1])
        for o in range(k):
            first = o // (k // group) * c
            window = x[:, first : first + c, rows, columns]
            y[:, o, i, j] = (window * w[o]).sum((1, 2, 3)) + b[o]
    return y


def deconvolve(x, w, b, stride, pad, group):
    """Each pixel of x puts w, scaled, into y: Caffe's DeconvolutionLayer."""
    n, c, height, width = x.shape
    per, (p, q) = w.shape[1], w.shape[2:]
    y = np.zeros((n, per * group, (height - 1) * stride[0] + p, (width - 1) * stride[1] + q))
    for i, j in np.ndindex(height, width):
        rows = slice(i * stride[0], i * stride[0] + p)
        columns = slice(j * stride[1], j * stride[1] + q)
        for ch in range(c):
            first = ch // (c // group) * per
            y[:, first : first + per, rows, columns] += x[:, ch, i, j][:, None, None, None] * w[ch]
    y += b[:, None, None]
    return y[:, :, pad[0] : y.shape[2] - pad[0], pad[1] : y.shape[3] - pad[1]]


def pool(x, kernel, stride, pad, maximum, rounded=math.ceil):
    """Caffe's PoolingLayer: AVE divides by the window within the padded image."""
    n, c, *image = x.shape
    size = []
    for a in (0, 1):
        count = rounded((image[a] + 2 * pad[a] - kernel[a]) / stride[a]) + 1
        if any(pad) and (count - 1) * stride[a] >= image[a] + pad[a]:
            count -= 1
        size.append(count)
    y = np.zeros((n, c, *size))
    for at in np.ndindex(*size):
        start = [at[a] * stride[a] - pad[a] for a in (0, 1)]
        end = [min(start[a] + kernel[a], image[a] + pad[a]) for a in (0, 1)]
        area = (end[0] - start[0]) * (end[1] - start[1])
        window = x[:, :, max(start[0], 0) : end[0], max(start[1], 0) : end[1]]
        y[:, :, *at] = window.max((2, 3)) if maximum else window.sum((2, 3)) / area
    return y


def response_norm(x, size, alpha, beta, k):
    """Caffe's LRNLayer, ACROSS_CHANNELS."""
    squares = np.zeros_like(x)
    for c in range(x.shape[1]):
        low, high = max(0, c - size // 2), c + size // 2 + 1
        squares[:, c] = (x[:, low:high] ** 2).sum(1)
    return x / (k + alpha / size * squares) ** beta


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


IMAGE = (2, 4, 7, 6)
X = numbers(*IMAGE)
W, B = numbers(6, 2, 3, 2), numbers(6)
SQUARE, UP = numbers(3, 4, 3, 3), numbers(4, 3, 3, 2)
C1, C2, ONE = numbers(4), np.abs(numbers(4)) + 0.5, np.ones(1, "f4")


def column(x):
    return x[:, None, None]


# kind, options, blobs, y as a function of x
ROWS = {
    "convolution": (
        "Convolution", "convolution_param { num_output: 6 group: 2 kernel_h: 3 kernel_w: 2 "
        "stride: 2 stride: 1 pad_h: 1 pad_w: 2 dilation: 2 engine: CAFFE }", [W, B],
        lambda x: convolve(x, W, B, (2, 1), (1, 2), (2, 2), 2)),
    "convolution without bias": (
        "Convolution", "convolution_param { num_output: 3 kernel_size: 3 bias_term: false "
        'weight_filler { type: "xavier" } } param { lr_mult: 0 }', [SQUARE],
        lambda x: convolve(x, SQUARE, [0] * 3, (1, 1), (0, 0), (1, 1), 1)),
    "convolution with options for each axis": (
        "Convolution", "convolution_param { num_output: 6 group: 2 kernel_size: 3 kernel_size: 2 "
        "pad: 0 pad: 1 dilation: 1 dilation: 3 stride_h: 1 stride_w: 2 }", [W, B],
        lambda x: convolve(x, W, B, (1, 2), (0, 1), (1, 3), 2)),
    "deconvolution": (
        "Deconvolution", "convolution_param { num_output: 6 group: 2 kernel_h: 3 kernel_w: 2 "
        "stride: 2 pad: 1 }", [UP, B], lambda x: deconvolve(x, UP, B, (2, 2), (1, 1), 2)),
    "maximum, rounded up": (
        "Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }", None,
        lambda x: pool(x, (3, 3), (2, 2), (0, 0), True)),
    "maximum, last window left off": (
        "Pooling", "pooling_param { kernel_size: 2 stride: 2 pad: 1 }", None,
        lambda x: pool(x, (2, 2), (2, 2), (1, 1), True)),
    "maximum, rounded down": (
        "Pooling", "pooling_param { kernel_size: 3 stride: 2 round_mode: FLOOR }", None,
        lambda x: pool(x, (3, 3), (2, 2), (0, 0), True, math.floor)),
    "average": (
        "Pooling", "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 "
        "pad_h: 1 pad_w: 0 }", None, lambda x: pool(x, (3, 2), (2, 3), (1, 0), False)),
    "average beyond the padding": (
        "Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", None,
        lambda x: pool(x, (3, 3), (2, 2), (1, 1), False)),
    "global average": (
        "Pooling", "pooling_param { pool: AVE global_pooling: true }", None,
        lambda x: x.mean((2, 3), keepdims=True)),
    "global maximum": (
        "Pooling", "pooling_param { pool: MAX global_pooling: true }", None,
        lambda x: x.max((2, 3), keepdims=True)),
    "inner product": (
        "InnerProduct", "inner_product_param { num_output: 5 }", [numbers(5, 168), numbers(5)],
        lambda x: x.reshape(2, -1) @ numbers(5, 168).T + numbers(5)),
    "inner product, transposed": (
        "InnerProduct", "inner_product_param { num_output: 5 transpose: true bias_term: false }",
        [numbers(168, 5)], lambda x: x.reshape(2, -1) @ numbers(168, 5)),
    "inner product along the last axis": (
        "InnerProduct", "inner_product_param { num_output: 3 axis: -1 }",
        [numbers(3, 6), numbers(3)], lambda x: x @ numbers(3, 6).T + numbers(3)),
    "inner product of planes": (
        "InnerProduct", "inner_product_param { num_output: 3 axis: 2 bias_term: false }",
        [numbers(3, 42)], lambda x: x.reshape(2, 4, 42) @ numbers(3, 42).T),
    "batch norm": (
        "BatchNorm", "batch_norm_param { eps: 0.01 }", [C1 * 4, C2 * 4, ONE * 4],
        lambda x: (x - column(C1)) / np.sqrt(column(C2) + 0.01)),
    "batch norm before training": (
        "BatchNorm", "", [C1, C2, ONE * 0], lambda x: x / np.sqrt(1e-5)),
    "scale": ("Scale", "", [C1], lambda x: x * column(C1)),
    "scale with bias": (
        "Scale", "scale_param { bias_term: true }", [C1, C2],
        lambda x: x * column(C1) + column(C2)),
    "bias": ("Bias", "", [C1], lambda x: x + column(C1)),
    "response norm": (
        "LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }", None,
        lambda x: response_norm(x, 3, 0.5, 0.6, 2)),
    "response norm within a channel, where k is 1": (
        "LRN", "lrn_param { local_size: 3 alpha: 0.5 k: 7 norm_region: WITHIN_CHANNEL }", None,
        lambda x: x / (1 + 0.5 * pool(x * x, (3, 3), (1, 1), (1, 1), False)) ** 0.75),
    "relu": ("ReLU", "", None, lambda x: np.maximum(x, 0)),
    "leaky relu": (
        "ReLU", "relu_param { negative_slope: 0.1 }", None, lambda x: np.where(x > 0, x, 0.1 * x)),
    "prelu": ("PReLU", "", [C1], lambda x: np.where(x > 0, x, column(C1) * x)),
    "prelu, one slope": (
        "PReLU", "prelu_param { channel_shared: true }", [ONE * 0.3],
        lambda x: np.where(x > 0, x, 0.3 * x)),
    "elu": (
        "ELU", "elu_param { alpha: 0.5 }", None,
        lambda x: np.where(x > 0, x, 0.5 * (np.exp(x) - 1))),
    "sigmoid": ("Sigmoid", "", None, lambda x: 1 / (1 + np.exp(-x))),
    "tanh": ("TanH", "", None, np.tanh),
    "absolute value": ("AbsVal", "", None, np.abs),
    "bnll": ("BNLL", "", None, lambda x: np.log(1 + np.exp(x))),
    "power": (
        "Power", "power_param { power: 2 scale: 3 shift: 1 }", None, lambda x: (1 + 3 * x) ** 2),
    "power 1": ("Power", "power_param { scale: 3 shift: 1 }", None, lambda x: 1 + 3 * x),
    "exp": ("Exp", "", None, np.exp),
    "exp to a base": (
        "Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", None, lambda x: 2 ** (1 + 0.5 * x)),
    "log to a base": (
        "Log", "log_param { base: 10 scale: 0.1 shift: 4 }", None,
        lambda x: np.log10(4 + 0.1 * x)),
    "dropout": ("Dropout", "dropout_param { dropout_ratio: 0.9 }", None, lambda x: x),
    "softmax": ("Softmax", "", None, lambda x: softmax(x, 1)),
    "softmax along another axis": (
        "Softmax", "softmax_param { axis: -2 }", None, lambda x: softmax(x, 2)),
    "flatten": ("Flatten", "", None, lambda x: x.reshape(2, -1)),
    "flatten some": (
        "Flatten", "flatten_param { axis: 1 end_axis: -2 }", None, lambda x: x.reshape(2, 28, 6)),
    "reshape": (
        "Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", None,
        lambda x: x.reshape(2, 56, 3)),
    "reshape of some axes": (
        "Reshape", "reshape_param { shape { dim: 2 dim: 2 } axis: 1 num_axes: 1 }", None,
        lambda x: x.reshape(2, 2, 2, 7, 6)),
    "reshape at the end": (
        "Reshape", "reshape_param { shape { dim: 1 } axis: -1 }", None, lambda x: x[..., None]),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_agrees_with_its_definition(row, tmp_path):
    kind, options, blobs, formula = ROWS[row]
    net = load(tmp_path, layer(kind, options), IMAGE, {"it": blobs} if blobs else None)
    expected = formula(X.astype("f8"))
    assert net(X).shape == expected.shape
    np.testing.assert_allclose(net(X), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("row", ROWS)
def test_gives_the_shape_that_the_next_layer_is_told(row, tmp_path):
    kind, options, blobs, _ = ROWS[row]
    text = layer(kind, options)
    text += 'layer { name: "ip" type: "InnerProduct" bottom: "y" inner_product_param { '
    text += 'num_output: 1 } top: "ip" }'
    net = load(tmp_path, text, IMAGE)
    assert net(X).shape == (2, 1)


TWO = 'input: "b" input_shape { dim: 2 dim: 4 dim: 7 dim: 6 } '
OTHER = numbers(2, 4, 7, 6)[::-1] * 0.5 + 1


@pytest.mark.parametrize(
    "options, formula",
    [
        ("", lambda a, b: a + b),
        ("eltwise_param { operation: SUM coeff: 2 coeff: -1 }", lambda a, b: 2 * a - b),
        ("eltwise_param { operation: PROD }", lambda a, b: a * b),
        ("eltwise_param { operation: MAX }", np.maximum),
    ],
)
def test_eltwise_takes_sum_product_or_maximum(options, formula, tmp_path):
    text = TWO + layer("Eltwise", options, bottoms=("data", "b"))
    net = load(tmp_path, text, IMAGE)
    np.testing.assert_allclose(net(X, OTHER), formula(X, OTHER), rtol=1e-6)


def test_concat_of_one_bottom_is_that_bottom(tmp_path):
    np.testing.assert_array_equal(load(tmp_path, layer("Concat"), IMAGE)(X), X)


@pytest.mark.parametrize("options", ["axis: 2", "axis: -2", "concat_dim: 2"])
def test_concat_goes_along_its_axis(options, tmp_path):
    text = TWO + layer("Concat", f"concat_param {{ {options} }}", bottoms=("data", "b", "data"))
    y = load(tmp_path, text, IMAGE)(X, OTHER)
    np.testing.assert_array_equal(y, np.concatenate([X, OTHER, X], 2))


@pytest.mark.parametrize(
    "options, cuts",
    [("slice_point: 1 slice_point: 3", [1, 3]), ("axis: 3", 3), ("slice_dim: 3", 3)],
)
def test_slice_gives_a_value_for_each_top(options, cuts, tmp_path):
    text = layer("Slice", f"slice_param {{ {options} }}", tops=("a", "b", "c"))
    text += 'layer { name: "r" type: "ReLU" bottom: "b" top: "d" }'
    net = load(tmp_path, text, IMAGE)
    parts = np.split(X, cuts, 3 if cuts == 3 else 1)
    y = net(X)
    for got, part in zip(y, [parts[0], parts[2], np.maximum(parts[1], 0)], strict=True):
        np.testing.assert_array_equal(got, part)
    np.testing.assert_array_equal(net.until("b")(X), parts[1])


def test_crop_takes_its_size_from_the_second_bottom(tmp_path):
    text = 'input: "b" input_shape { dim: 1 dim: 9 dim: 4 dim: 3 } '
    text += layer("Crop", "crop_param { axis: 2 offset: 1 offset: 2 }", bottoms=("data", "b"))
    net = load(tmp_path, text, IMAGE)
    np.testing.assert_array_equal(net(X, numbers(1, 9, 4, 3)), X[:, :, 1:5, 2:5])
    np.testing.assert_array_equal(net(X, numbers(1, 9, 6, 1)), X[:, :, 1:7, 2:3])
    text = text.replace("axis: 2 offset: 1 offset: 2", "axis: -1 offset: 3")
    y = load(tmp_path, text, IMAGE)(X, numbers(1, 9, 4, 3))
    np.testing.assert_array_equal(y, X[:, :, :, 3:])
    text = text.replace("axis: -1 offset: 3", "axis: 3")
    y = load(tmp_path, text, IMAGE)(X, numbers(1, 9, 4, 3))
    np.testing.assert_array_equal(y, X[:, :, :, :3])


def test_crop_without_options_lays_the_pixels_over_each_other(tmp_path):
    text = """
    layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param {
        num_output: 1 kernel_size: 3 pad: 5 } }
    layer { name: "p" type: "Pooling" bottom: "c" top: "p" pooling_param {
        kernel_size: 2 stride: 2 } }
    layer { name: "d" type: "Deconvolution" bottom: "p" top: "d" convolution_param {
        num_output: 1 kernel_size: 4 stride: 2 } }
    """
    net = load(tmp_path, text + layer("Crop", bottoms=("d", "data")), (1, 1, 20, 20))
    # one bright pixel must come out as a patch with the same centre
    net["c"].weight[...] = net["c"].bias[...] = 0
    net["c"].weight[0, 0, 1, 1] = net["d"].weight[...] = 1
    net["d"].bias[...] = 0
    x = np.zeros((1, 1, 20, 20), "f4")
    x[0, 0, 9:11, 9:11] = 1
    y = net(x)[0, 0]
    rows, columns = np.nonzero(y)
    assert y.shape == (20, 20)
    assert rows.min() + rows.max() == columns.min() + columns.max() == 19
    assert net.notes[0].startswith("Crop layer 'it' has no crop_param: from (5, 5) on")


def test_the_gradients_of_the_layers_of_our_own_are_right(tmp_path):
    from flambeau import nn
    from flambeau.zoo import caffe_modules as modules

    x = numbers(2, 4, 5, 6).astype("f8")
    for module in (
        modules.Slice(1, (1, 3)), modules.Reshape((0, 2, -1)), modules.GlobalMaxPool2d(),
        modules.Bias(4).astype("f8"),
    ):  # fmt: skip
        nn.gradcheck(module, x)
    nn.gradcheck(modules.Crop(2, (1, 2)), x, numbers(1, 1, 3, 4).astype("f8"))


def test_crop_needs_an_offset_where_pixels_lie_nowhere(tmp_path):
    text = layer("Flatten", tops=("f",), bottoms=("data",))
    text += 'layer { name: "r" type: "Reshape" bottom: "f" top: "r" reshape_param { shape {'
    text += " dim: 0 dim: 4 dim: 7 dim: 6 } } }"
    text += 'layer { name: "crop" type: "Crop" bottom: "r" bottom: "data" top: "y" }'
    with pytest.raises(FormatError, match="'crop'.*common grid.*crop_param"):
        load(tmp_path, text, IMAGE)


def test_layers_in_place_leave_the_last_value_under_the_blob_name(tmp_path):
    text = """
    layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" }
    layer { name: "scaled" type: "Power" bottom: "norm" top: "norm" power_param { scale: -1 } }
    layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
    layer { name: "sum" type: "Eltwise" bottom: "norm" bottom: "data" top: "sum" }
    """
    net = load(tmp_path, text, (1, 2, 1, 1), {"norm": [np.ones(2), np.ones(2), ONE]})
    x = np.array([3.0, -1.0], "f4").reshape(1, 2, 1, 1)
    normal = (x - 1) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(net(x), np.maximum(-normal, 0) + x, rtol=1e-6)
    np.testing.assert_allclose(net.until("norm")(x), np.maximum(-normal, 0), rtol=1e-6)
    np.testing.assert_allclose(net.until("relu")(x), np.maximum(-normal, 0), rtol=1e-6)
    np.testing.assert_allclose(net.until("scaled")(x), -normal, rtol=1e-6)
    assert {name.partition(".")[0] for name in net.state_dict()} == {"norm"}


def test_an_input_can_be_changed_in_place(tmp_path):
    net = load(tmp_path, layer("Power", "power_param { shift: 1 }", tops=("data",)), (1, 2))
    np.testing.assert_array_equal(net(np.zeros((1, 2), "f4")), np.ones((1, 2)))
    assert net.input_shapes == {"data": (1, 2)}


def test_split_and_silence_compute_nothing(tmp_path):
    text = layer("Split", tops=("a", "b", "c"))
    text += 'layer { name: "s" type: "Silence" bottom: "c" }'
    text += 'layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "e" }'
    net = load(tmp_path, text, (1, 2))
    np.testing.assert_array_equal(net(np.ones((1, 2), "f4")), np.full((1, 2), 2))
    assert len(net.children()) == 1


def test_parameters_of_one_name_are_one_array(tmp_path):
    text = ""
    for name, bottom in (("one", "data"), ("two", "one")):
        text += f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        text += 'param { name: "w" } param { name: "b" } inner_product_param { num_output: 3 } }'
    w, b = numbers(3, 3), numbers(3)
    net = load(tmp_path, text, (2, 3), {"one": [w, b], "two": [w, b]})
    assert net["one"].weight is net["two"].weight and net["one"].bias is net["two"].bias
    assert len(net.parameters()) == 2
    x = numbers(2, 3)
    np.testing.assert_allclose(net(x), (x @ w.T + b) @ w.T + b, rtol=1e-5)
    with pytest.raises(FormatError, match="'two'.*parameter 'w'.*another layer"):
        load(tmp_path, text.replace("num_output: 3 } }layer", "num_output: 4 } }layer"), (2, 3))


def test_statistics_are_fixed_in_training_where_the_file_says_so(tmp_path):
    options = "batch_norm_param { use_global_stats: true moving_average_fraction: 0.9 }"
    x = numbers(5, 4, 2, 2)
    for text, fixed in ((options, True), (options.replace("true", "false"), False), ("", False)):
        net = load(tmp_path, layer("BatchNorm", text), x.shape, phase="TRAIN")
        net["it"].running_mean[...], net["it"].running_var[...] = 0, 1
        y = net.train()(x)
        assert np.allclose(y, x, rtol=1e-4) == fixed
        assert np.allclose(net["it"].running_mean, 0) == fixed
    net = load(tmp_path, layer("BatchNorm", options.replace("true", "false")), x.shape)
    std = np.sqrt(x.var((0, 2, 3)) + 1e-5)
    np.testing.assert_allclose(net(x), (x - column(x.mean((0, 2, 3)))) / column(std), atol=1e-5)


def test_a_reader_can_be_added(tmp_path):
    from flambeau import nn
    from flambeau.zoo.caffe_registry import readers, reads

    @reads("Swish")
    def swish(layer, shape):
        return nn.Sigmoid(), shape

    try:
        y = load(tmp_path, layer("Swish"), IMAGE)(X)
    finally:
        del readers["Swish"]
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-X)), rtol=1e-5)
    with pytest.raises(FormatError, match="Swish layer 'it'"):
        load(tmp_path, layer("Swish"), IMAGE)


def test_is_a_graph_that_can_be_saved_and_trained(tmp_path):
    from flambeau import nn

    text = layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }", tops=("c",))
    text += 'layer { name: "slice" type: "Slice" bottom: "c" top: "a" top: "b" }'
    text += 'layer { name: "crop" type: "Crop" bottom: "data" bottom: "b" top: "d" }'
    text += 'layer { name: "fc" type: "InnerProduct" bottom: "d" top: "e" inner_product_param { '
    text += "num_output: 3 } }"
    text += 'layer { name: "z" type: "Silence" bottom: "a" }'
    net = load(tmp_path, text, IMAGE)
    assert isinstance(net, nngraph.Graph)
    net.save(tmp_path / "net.h5")
    np.testing.assert_array_equal(nn.load(tmp_path / "net.h5")(X), net(X))
    code = f"from flambeau import nn; print(nn.load({str(tmp_path / 'net.h5')!r})['crop'])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.stdout.strip() == repr(net["crop"]), other.stderr
    net.train()
    net.zero_grad()
    net.backward(X, np.ones_like(net(X)))
    assert np.abs(net["fc"].grad_weight).max() > 0
