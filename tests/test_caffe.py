"""Caffe's files: real networks against Caffe's own values, both formats, damage."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format

from flambeau import nn
from flambeau.zoo import FormatError, caffe, caffe_pb2


def caffe_input(rgb, mean):
    """What the references were computed on: BGR less the mean, planes first."""
    return np.ascontiguousarray((rgb[..., ::-1].astype("f4") - mean).transpose(0, 3, 1, 2))


def state_size(net):
    """How many numbers a caffemodel of the network holds: batch norm has a factor of its own."""
    statistics = [array for name, array in net.named_buffers() if ".running_" in name]
    norms = net.find(nn.BatchNorm1d) + net.find(nn.BatchNorm2d)
    return sum(array.size for array in [*net.parameters(), *statistics]) + len(norms)


# ---- real networks


@pytest.mark.data
@pytest.mark.parametrize("name", ["resnet50", "vgg16", "squeezenet11"])
def test_small_networks_agree_with_caffe_blob_by_blob(name, data):
    small = data / "caffe" / "small"
    net = caffe.load(small / f"{name}.prototxt", small / f"{name}.caffemodel")
    with np.load(small / f"{name}_ref.npz") as expected:
        blobs = {k.removeprefix("blob_"): expected[k] for k in expected.files if k != "x"}
        y, inner = net(expected["x"], taps=[*blobs])
    for blob, values in blobs.items():
        assert inner[blob].shape == values.shape
        np.testing.assert_allclose(inner[blob], values, rtol=1e-4, atol=1e-4 * values.std())
    np.testing.assert_array_equal(y, inner["prob"])


@pytest.mark.data
def test_squeezenet_gives_the_logits_that_caffe_gives(data):
    folder = data / "caffe"
    net = caffe.load(
        folder / "prototxt" / "squeezenet_v1.0_deploy.prototxt",
        folder / "squeezenet_v1.0.caffemodel",
    )
    with np.load(folder / "squeezenet_reference.npz") as expected:
        x = caffe_input(expected["rgb_uint8"], expected["mean_bgr"])
        slices = [k.removeprefix("caffe_slice_") for k in expected.files if "_slice_" in k]
        names = {blob.replace("_concat", "/concat"): blob for blob in slices}
        y, inner = net(x, taps=["pool10", *names])
        for blob, key in names.items():
            part, stat = expected[f"caffe_slice_{key}"], expected[f"caffe_stat_{key}"]
            value = inner[blob]
            near = min(1e-3, 5e-6 * abs(value).max())  # what Winograd rounds is relative to this
            np.testing.assert_allclose(value[:, :8, :6, :6], part, rtol=1e-4, atol=near)
            np.testing.assert_allclose(value.mean((1, 2, 3)), stat[:, 0], rtol=1e-4)
        logits, reference = inner["pool10"].reshape(7, 1000), expected["caffe_pool10"]
        np.testing.assert_allclose(logits, reference, atol=1e-3)
        top = np.argsort(-logits, 1)[:, :5]
        np.testing.assert_array_equal(top, np.argsort(-reference, 1)[:, :5])
        np.testing.assert_allclose(y.reshape(7, 1000), expected["caffe_prob"], atol=1e-5)
    assert net.input_shapes == {"data": (10, 3, 227, 227)}


@pytest.mark.data
def test_open_nsfw_gives_the_blobs_that_caffe_gives(data):
    from flambeau.zoo import fetch, index

    files = fetch.files(index.get("open-nsfw"))
    net = caffe.load(files["prototxt"], files["caffemodel"])
    assert net.name == "ResNet_50_1by2_nsfw"
    with np.load(data / "caffe" / "nsfw_reference.npz") as expected:
        x = caffe_input(expected["rgb_uint8"], expected["mean_bgr"])
        blobs = [k.removeprefix("shape_") for k in expected.files if k.startswith("shape_")]
        y, inner = net(x, taps=["pool", "fc_nsfw", *blobs])
        for blob in blobs:
            part, stat = expected[f"caffe_slice_{blob}"], expected[f"caffe_stat_{blob}"]
            value = inner[blob]
            assert value.shape[1:] == tuple(expected[f"shape_{blob}"][1:])
            np.testing.assert_allclose(value[:, :8, :6, :6], part, rtol=1e-4, atol=1e-3)
            np.testing.assert_allclose(value.mean((1, 2, 3)), stat[:, 0], rtol=1e-4)
        np.testing.assert_allclose(inner["pool"], expected["caffe_pool"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(inner["fc_nsfw"], expected["caffe_fc_nsfw"], atol=1e-4)
        np.testing.assert_allclose(y, expected["caffe_prob"], atol=1e-5)


@pytest.mark.data
@pytest.mark.parametrize(
    "prototxt, caffemodel, key, right",
    [
        ("lenet_v1.prototxt", "lenet_v1.caffemodel", "everpeace", 9905),
        ("prototxt/lenet.prototxt", "lenet_v2.caffemodel", "ethereon", 9914),
    ],
)
def test_lenet_reads_the_digits_that_caffe_reads(prototxt, caffemodel, key, right, data):
    with gzip.open(data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), "u1", offset=16).reshape(-1, 1, 28, 28)
    with gzip.open(data / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), "u1", offset=8)
    net = caffe.load(data / "caffe" / prototxt, data / "caffe" / caffemodel)
    x = images.astype("f4") / 256
    prob = np.concatenate([net(x[i : i + 500]) for i in range(0, len(x), 500)])
    assert abs(int((prob.argmax(1) == labels).sum()) - right) <= 1
    with np.load(data / "caffe" / "lenet_mnist_reference.npz") as expected:
        np.testing.assert_allclose(prob[:200], expected[f"prob_{key}"], atol=1e-5)
        assert (prob.argmax(1) == expected[f"argmax_{key}"]).sum() >= 9999


SIZES = {
    "VGG_ILSVRC_16_layers_deploy": 138_357_544,
    "VGG16_deploy_v2syntax": 138_357_544,
    "VGG_ILSVRC_19_layers_deploy": 143_667_240,
    "VGG_ILSVRC_19_layers_deploy_AVEpool": 143_667_240,
    "vgg16_crowsonkb_noFC": 14_714_688,
    "vgg19_crowsonkb_noFC": 20_024_384,
    "bvlc_googlenet_deploy": 6_998_552,
    "bvlc_alexnet_deploy": 60_965_224,
    "bvlc_reference_caffenet_deploy": 60_965_224,
    "bvlc_caffenet_full_conv": 60_965_224,
    "bvlc_reference_rcnn_ilsvrc13_deploy": 60_965_224 - 800 * 4097,  # 200 classes, not 1000
    "squeezenet_v1.0_deploy": 1_248_424,
    "squeezenet_v1.1_deploy": 1_235_496,
    "ResNet-50-deploy": 25_610_269,
    "ResNet-101-deploy": 44_654_608,
    "ResNet-152-deploy": 60_344_387,
    "hed_deploy": 14_714_688 + 5 + 64 + 128 + 256 + 512 + 512 + 4 + 16 + 64 + 256 + 1024 + 6,
    "lenet": 431_080,
    "cifar10_quick": 145_578,
    "cifar10_full": 89_578,
    "bvlc_alexnet_train_val": 60_965_224,
    "bvlc_reference_caffenet_train_val": 60_965_224,
    "squeezenet_v1.0_train_val": 1_248_424,
    "squeezenet_v1.1_train_val": 1_235_496,
    "bvlc_googlenet_train_val": 13_378_280,  # with both auxiliary classifiers
}


@pytest.mark.data
def test_every_prototxt_at_hand_has_a_size(data):
    found = {path.stem for path in (data / "caffe" / "prototxt").glob("*.prototxt")}
    assert found == SIZES.keys()


@pytest.mark.data
@pytest.mark.parametrize("name", SIZES)
def test_a_prototxt_alone_gives_the_architecture(name, data):
    path = data / "caffe" / "prototxt" / f"{name}.prototxt"
    assert caffe.matches(path.read_bytes()[:512])
    with nn.init.skipped():  # 138 million random numbers would take longer than the rest
        net = caffe.load(path)
    assert state_size(net) == SIZES[name]


@pytest.mark.data
def test_hed_gives_an_edge_map_of_the_size_of_the_image_at_each_scale(data):
    net = caffe.load(data / "caffe" / "prototxt" / "hed_deploy.prototxt")
    maps = net(np.zeros((1, 3, 33, 48), "f4"))
    assert [y.shape for y in maps] == [(1, 1, 33, 48)] * 6
    offsets = [net[name].offset for name in ("crop", "crop_2", "crop_3", "crop_4", "crop_5")]
    assert offsets == [(34, 34), (35, 35), (36, 36), (38, 38), (42, 42)]


@pytest.mark.data
def test_a_training_prototxt_gives_the_logits_and_says_what_is_left_off(data):
    prototxt = data / "caffe" / "prototxt"
    net = caffe.load(
        prototxt / "squeezenet_v1.0_train_val.prototxt",
        data / "caffe" / "squeezenet_v1.0.caffemodel",
    )
    assert net.input_shapes == {"data": (25, 3, 227, 227)}
    assert [note.partition(" is left off")[0] for note in net.notes] == [
        "Accuracy layer 'accuracy'",
        "Accuracy layer 'accuracy_top5'",
    ]
    with np.load(data / "caffe" / "squeezenet_reference.npz") as expected:
        x = caffe_input(expected["rgb_uint8"], expected["mean_bgr"])[:2]
        logits = net(x).reshape(2, 1000)
        np.testing.assert_allclose(logits, expected["caffe_pool10"][:2], atol=1e-3)
    with nn.init.skipped():
        train = caffe.load(prototxt / "bvlc_alexnet_train_val.prototxt", phase="TRAIN")
        test = caffe.load(prototxt / "bvlc_alexnet_train_val.prototxt")
    assert train.notes == ["SoftmaxWithLoss layer 'loss' is left off: it needs labels"]
    assert train.input_shapes == {"data": (256, 3, 227, 227)} and train.training
    assert test.input_shapes == {"data": (50, 3, 227, 227)} and not test.training


@pytest.mark.data
def test_weights_go_by_layer_name(data):
    folder = data / "caffe"
    blobs = caffe.read(folder / "lenet_v1.caffemodel")
    assert {name: array.shape for name, array in blobs.items()} == {
        "conv1.0": (20, 1, 5, 5), "conv1.1": (1, 1, 1, 20),
        "conv2.0": (50, 20, 5, 5), "conv2.1": (1, 1, 1, 50),
        "ip1.0": (1, 1, 500, 800), "ip1.1": (1, 1, 1, 500),
        "ip2.0": (1, 1, 10, 500), "ip2.1": (1, 1, 1, 10),
    }  # fmt: skip
    assert all(array.dtype == np.float32 and array.flags.writeable for array in blobs.values())
    net = caffe.load(folder / "lenet_v1.prototxt", folder / "lenet_v1.caffemodel")
    assert [*net.state_dict()] == [
        f"{name}.{part}" for name in ("conv1", "conv2", "ip1", "ip2") for part in ("weight", "bias")
    ]
    np.testing.assert_array_equal(net["ip1"].weight, blobs["ip1.0"][0, 0])


@pytest.mark.data
def test_a_caffemodel_holds_its_own_architecture(data):
    path = data / "caffe" / "lenet_v2.caffemodel"
    with pytest.raises(FormatError, match="shapes={'data'"):
        caffe.load(caffemodel=path)
    net = caffe.load(caffemodel=path, shapes={"data": (1, 1, 28, 28)})
    deploy = caffe.load(data / "caffe" / "prototxt" / "lenet.prototxt", path)
    x = np.random.default_rng(0).random((2, 1, 28, 28), "f4")
    np.testing.assert_array_equal(net(x), deploy.until("ip2")(x))


# ---- small networks written here

NET = """
name: "Small"
input: "data" input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 5
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 2 } }
"""
V1 = """
name: 'Small'
input: 'data'
input_dim: 2 input_dim: 3 input_dim: 5 input_dim: 5
layers { name: 'conv' type: CONVOLUTION bottom: 'data' top: 'conv' blobs_lr: 1 blobs_lr: 2
  weight_decay: 1 weight_decay: 0 param: 'w' param: 'b' blob_share_mode: STRICT
  convolution_param { num_output: 4 kernel_size: 3 engine: CAFFE } }
layers { name: 'relu' type: RELU bottom: 'conv' top: 'conv' }
layers { name: 'fc' type: INNER_PRODUCT bottom: 'conv' top: 'fc' an_unknown_field: 3
  inner_product_param { num_output: 2 } an_unknown_message { with: "this" and { that: 1.5 } } }
"""
SHAPES = {"conv": [(4, 3, 3, 3), (4,)], "fc": [(2, 36), (2,)]}


def weights():
    rng = np.random.default_rng(0)
    return {
        n: [rng.standard_normal(s).astype("f4") for s in shapes] for n, shapes in SHAPES.items()
    }


def store(blob, array, way):
    """Put an array into a BlobProto: as Caffe 1.0 does, as its old versions did, in float64."""
    if way == "legacy":
        padded = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = padded
    else:
        blob.shape.dim.extend(array.shape)
    (blob.double_data if way == "double" else blob.data).extend(array.ravel().tolist())


def write(path, blobs, way="shape", v1=False):
    net = caffe_pb2.NetParameter(name="Small")
    for name, arrays in blobs.items():
        layer = net.layers.add(name=name, type="RELU") if v1 else net.layer.add(name=name, type="X")
        for array in arrays:
            store(layer.blobs.add(), array, way)
    path.write_bytes(net.SerializeToString())
    return path


@pytest.fixture
def files(tmp_path):
    """NET and its weights."""
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt", write(tmp_path / "net.caffemodel", weights())


@pytest.mark.parametrize("v1", [False, True])
@pytest.mark.parametrize("way", ["shape", "legacy", "double"])
@pytest.mark.parametrize("text", [NET, V1])
def test_old_and_new_formats_say_the_same(text, way, v1, files, tmp_path):
    path = tmp_path / "other.prototxt"
    path.write_text(text)
    model = write(tmp_path / "other.caffemodel", weights(), way, v1)
    for file in (path, model):
        assert caffe.matches(file.read_bytes()[:256])
    net, same = caffe.load(path, model), caffe.load(*files)
    assert net.name == "Small" and net.input_shapes == {"data": (2, 3, 5, 5)}
    assert {name: array.shape for name, array in net.state_dict().items()} == {
        "conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "fc.weight": (2, 36), "fc.bias": (2,),
    }  # fmt: skip
    x = np.random.default_rng(1).random((2, 3, 5, 5), "f4")
    np.testing.assert_array_equal(net(x), same(x))


def test_weights_and_architecture_may_be_text_or_binary(files, tmp_path):
    net = text_format.Parse(NET, caffe_pb2.NetParameter(), allow_unknown_field=True)
    binary = tmp_path / "binary"
    binary.write_bytes(net.SerializeToString())
    text = tmp_path / "text"
    text.write_text(str(caffe_pb2.NetParameter.FromString(files[1].read_bytes())))
    assert caffe.matches(binary.read_bytes()) and caffe.matches(text.read_bytes())
    x = np.ones((2, 3, 5, 5), "f4")
    np.testing.assert_array_equal(caffe.load(binary, text)(x), caffe.load(*files)(x))


def test_numbers_that_are_not_packed_are_read_too(tmp_path):
    path = write(tmp_path / "net.caffemodel", {"a": [np.arange(3, dtype="f4")]})
    packed = b"\x2a\x0c" + np.arange(3, dtype="<f4").tobytes()
    loose = b"".join(b"\x2d" + np.float32(i).tobytes() for i in range(3))
    blob = b"\x3a\x03\x0a\x01\x03"
    layer = b"\x0a\x01a\x12\x01X\x3a"
    body = layer + bytes([len(blob + packed)]) + blob + packed
    other = layer + bytes([len(blob + loose)]) + blob + loose
    halves = [b"\x2a\x04" + packed[2:6], b"\x2a\x08" + packed[6:]]
    third = layer + bytes([len(blob + packed) + 2]) + blob + b"".join(halves)
    for way in (body, other, third):
        path.write_bytes(b"\xa2\x06" + bytes([len(way)]) + way)
        np.testing.assert_array_equal(caffe.read(path)["a.0"], np.arange(3))


def test_comments_and_byte_order_marks_do_not_hide_a_prototxt(tmp_path):
    text = "\ufeff# a comment: layer {\n\n  # 中文\n" + NET
    path = tmp_path / "net"
    path.write_bytes(text.encode())
    assert caffe.matches(path.read_bytes())
    caffe.load(path)
    path.write_bytes(text.replace("\ufeff", "").encode("gb18030"))
    assert caffe.matches(path.read_bytes())
    caffe.load(path)


@pytest.mark.parametrize(
    "head",
    [
        b"", b"net: \"x.prototxt\"\nbase_lr: 0.01\nlayer {", b"\x80\x02}q\x00.", b"PK\x03\x04",
        b"\x89HDF\r\n\x1a\n", b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 1", b"name: CI\ninput:\n",
        b"\x08\x08\x12\x07pytorch:\x10", b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder",
        bytes(range(256)), b'{"name": "x", "layers": {}}', b"\x10\0\0\0\0\0\0\0{}",
    ],
)  # fmt: skip
def test_other_files_are_not_taken_for_caffe(head):
    assert not caffe.matches(head)


def test_the_phase_and_the_rules_of_the_file_choose_the_layers(tmp_path):
    path = tmp_path / "net.prototxt"
    rules = {
        "a": "include { phase: TEST }", "b": "include { phase: TRAIN }",
        "c": "exclude { phase: TEST }", "d": "include { phase: TRAIN } include { min_level: 1 }",
        "e": 'include { stage: "deploy" }', "f": 'exclude { not_stage: "deploy" }',
        "g": "include { max_level: 1 }",
    }  # fmt: skip
    text = 'state { level: 2 stage: "deploy" } input: "x" input_shape { dim: 1 dim: 2 }'
    for name, rule in rules.items():
        text += f'layer {{ name: "{name}" type: "ReLU" bottom: "x" top: "{name}" {rule} }}'
    path.write_text(text)
    assert [name for name, _ in caffe.load(path).children()] == ["a", "d", "e", "f"]
    train = caffe.load(path, phase="TRAIN")
    assert [name for name, _ in train.children()] == ["b", "c", "d", "e", "f"]


def test_shapes_are_taken_from_the_caller_first(files):
    net = caffe.load(files[0], shapes={"data": (1, 3, 9, 9)})
    assert net["fc"].weight.shape == (2, 4 * 7 * 7) and net.input_shapes == {"data": (1, 3, 9, 9)}
    with pytest.raises(ValueError, match="shapes has image; the inputs are data"):
        caffe.load(files[0], shapes={"image": (1, 3, 9, 9)})


def test_data_layers_tell_the_input(tmp_path):
    relu = 'layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
    for text, shape in {
        'type: "Data" transform_param { crop_size: 8 } data_param { batch_size: 5 }': (5, 3, 8, 8),
        'type: "Data" transform_param { crop_size: 8 force_gray: true }': (1, 1, 8, 8),
        'type: "ImageData" image_data_param { new_height: 6 new_width: 7 }': (1, 3, 6, 7),
        'type: "MemoryData" memory_data_param { batch_size: 1 channels: 2 height: 3 width: 4 }':
            (1, 2, 3, 4),
        'type: "DummyData" dummy_data_param { num: 2 channels: 3 height: 4 width: 5 }':
            (2, 3, 4, 5),
        'type: "Input" input_param { shape { dim: 3 dim: 1 } }': (3, 1),
    }.items():  # fmt: skip
        path = tmp_path / "net.prototxt"
        path.write_text(f'layer {{ name: "d" top: "x" {text} }} {relu}')
        assert caffe.load(path).input_shapes == {"x": shape}


def test_labels_are_no_part_of_the_network(tmp_path):
    path = tmp_path / "net.prototxt"
    head = 'layer { name: "d" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 } } }'
    ip = 'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "ip" inner_product_param { '
    ip += "num_output: 2 axis: 0 } }"
    loss = 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }'
    path.write_text(head + ip + loss)
    net = caffe.load(path)
    assert net(np.ones(2, "f4")).shape == (2,)
    assert net.notes == [
        "SoftmaxWithLoss layer 'loss' is left off: it needs labels",
        "input 't' is left off: no output depends on it",
    ]
    hdf5 = 'layer { name: "d" type: "HDF5Data" top: "x" top: "t" }'
    mixed = 'layer { name: "m" type: "Eltwise" bottom: "ip" bottom: "t" top: "m" }'
    path.write_text(hdf5 + ip + mixed)
    with pytest.raises(FormatError, match="'m': its bottom 't' is the labels of 'd'"):
        caffe.load(path, shapes={"x": (2,)})


# ---- what cannot be read


def test_a_layer_that_is_not_known_is_named(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET.replace('"ReLU"', '"Frobnicate"'))
    with pytest.raises(FormatError, match=r"net\.prototxt: Frobnicate layer 'relu'"):
        caffe.load(path)
    path.write_text(V1.replace("RELU", "ARGMAX"))
    with pytest.raises(FormatError, match="ARGMAX layer 'relu'"):
        caffe.load(path)
    path.write_text(V1.replace("RELU", "FROBNICATE"))
    with pytest.raises(FormatError, match="FROBNICATE"):
        caffe.load(path)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ('"conv" top: "fc"', '"gone" top: "fc"', "'fc': no layer before it .*'gone'"),
        ('bottom: "data" top: "conv"', 'bottom: "fc" top: "conv"', "'conv'.*'fc'; 'fc' would"),
        ("kernel_size: 3", "kernel_size: 9", "'conv': its kernel is larger"),
        ("kernel_size: 3", "", "'conv': its kernel must be given"),
        ("kernel_size: 3", "kernel_size: 3 kernel_size: 3 kernel_size: 3", "'conv': kernel_size"),
        ("kernel_size: 3", "kernel_size: 3 stride: 0", "'conv': its stride"),
        ("kernel_size: 3", "kernel_size: 3 group: 2", "'conv': group 2 must divide 3"),
        ("num_output: 4", "num_output: 0", "'conv': num_output 0"),
        ("num_output: 4", "num_output: 4000000000", "'conv'.* more than a file can hold"),
        ("num_output: 2", "num_output: 2 axis: 7", "'fc': axis 7"),
        ("num_output: 2", "num_output: two", "two"),
        ("input_dim: 2", "input_dim: 2 input_dim: 2", "1 inputs have shapes"),
        ("input_dim: 2", "input_dim: -2", "'data' no shape"),
        ("input_dim: 2", "input_dim: 0", "'data' no shape"),
        ('"conv" top: "conv"', '"conv" bottom: "data" top: "conv"', "must have 1 bottom, not 2"),
        ('top: "fc"', "", "'fc': it must have a top"),
        ('top: "fc"', 'top: "fc" top: "more"', "'fc': it must have 1 top"),
        ('layer { name: "relu"', 'layers { } layer { name: "relu"', "both formats"),
        ("layer {", "layer {{", "damaged, or no network"),
        ('type: "ReLU"', "", "untyped layer 'relu'"),
        ('type: "ReLU"', 'type: "Dropout" dropout_param { dropout_ratio: 7 }', "Dropout layer"),
        ('type: "ReLU"', 'type: "LRN" lrn_param { local_size: 4 }', "local_size 4 must be odd"),
        ('type: "ReLU"', 'type: "Exp" exp_param { base: -2 }', "base -2.0 must be positive"),
        ('type: "ReLU"', 'type: "Pooling" pooling_param { pool: STOCHASTIC }', "stochastic"),
        ('type: "ReLU"', 'type: "Pooling" pooling_param { kernel_size: 1 stride: 3 }', "outside"),
        ('type: "ReLU"', 'type: "Pooling" pooling_param { kernel_size: 4 }', "kernel 4 and pad 0"),
        ('type: "ReLU"', 'type: "Scale" scale_param { axis: 0 }', "'relu': only axis: 1"),
        ('type: "ReLU"', 'type: "Scale" scale_param { num_axes: -1 }', "'relu': only axis: 1"),
        ('type: "ReLU"', 'type: "Slice" slice_param { slice_point: 1 }', "'relu': 1 tops need 0"),
        ('type: "ReLU"', 'type: "Reshape" reshape_param { shape { dim: 7 } }', "must fit"),
        ('type: "ReLU"', 'type: "Flatten" flatten_param { axis: 3 end_axis: 1 }', "not be after"),
        ('type: "ReLU"', 'type: "Eltwise"', "two bottoms or more"),
        ('type: "ReLU" bottom: "conv"', 'type: "Input" input_param { shape { } shape { } }',
         "2 shapes are given for 1 tops"),
    ],
)  # fmt: skip
def test_what_a_prototxt_gets_wrong_is_named(old, new, message, tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(NET.replace(old, new, 1))
    with pytest.raises(FormatError, match=message) as caught:
        caffe.load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_the_oldest_format_is_told_apart(tmp_path):
    path = tmp_path / "net.prototxt"
    path.write_text(
        'input: "data" layers { layer { name: "c" type: "conv" } bottom: "data" top: "c" }'
    )
    with pytest.raises(FormatError, match="upgrade_net_proto"):
        caffe.load(path)


def test_weights_that_do_not_fit_are_named_with_both_shapes(files, tmp_path):
    blobs = weights()
    blobs["fc"][0] = blobs["fc"][0][:, :-1]
    model = write(tmp_path / "bad.caffemodel", blobs)
    message = (
        r"bad\.caffemodel: InnerProduct layer 'fc': .* \(2, 36\), \(2,\) — .* \(2, 35\), \(2,\)"
    )
    with pytest.raises(FormatError, match=message):
        caffe.load(files[0], model)
    blobs = weights()
    del blobs["conv"][1]
    with pytest.raises(FormatError, match=r"'conv'.*holds \(4, 3, 3, 3\)$"):
        caffe.load(files[0], write(model, blobs))
    net = caffe_pb2.NetParameter()
    blob = net.layer.add(name="conv").blobs.add(data=[1.0] * 5)
    blob.shape.dim.extend([2, 3])
    model.write_bytes(net.SerializeToString())
    with pytest.raises(
        FormatError, match=r"'conv': a blob of shape \(2, 3\) must hold 6 .* holds 5"
    ):
        caffe.read(model)
    blob.shape.dim[:] = [2**40, 2**40]
    model.write_bytes(net.SerializeToString())
    with pytest.raises(FormatError, match="'conv'"):
        caffe.read(model)


def test_missing_weights_are_an_error_and_spare_ones_a_note(files, tmp_path):
    blobs = weights() | {"fc8": [np.zeros(3, "f4")]}
    del blobs["fc"]
    model = write(tmp_path / "part.caffemodel", blobs)
    with pytest.raises(FormatError, match="no weights for fc; strict=False"):
        caffe.load(files[0], model)
    nn.seed(0)
    net = caffe.load(files[0], model, strict=False)
    np.testing.assert_array_equal(net["conv"].weight, blobs["conv"][0])
    assert 0 < np.abs(net["fc"].weight).max() < 1
    assert net.notes == [
        "not in the caffemodel, fresh weights: fc",
        "weights in the caffemodel that no layer asks for: fc8",
    ]


def test_files_without_what_is_asked_for_say_so(files, tmp_path):
    with pytest.raises(FormatError, match="without weights"):
        caffe.read(files[0])
    with pytest.raises(FileNotFoundError):
        caffe.read(tmp_path / "absent")
    with pytest.raises(TypeError, match="needs a prototxt"):
        caffe.load()
    with pytest.raises(ValueError, match="phase"):
        caffe.load(files[0], phase="test")
    for content in (b"", b"\n", b"hello", b"\0" * 100, b"PK\x03\x04\0\0", b"\x89HDF\r\n\x1a\n\0"):
        bad = tmp_path / "bad"
        bad.write_bytes(content)
        for attempt in (lambda p: caffe.load(p), caffe.read, lambda p: caffe.load(files[0], p)):
            with pytest.raises(FormatError, match="bad: ") as caught:
                attempt(bad)
            assert "\n" not in str(caught.value)


def test_every_truncation_of_a_caffemodel_is_an_error(files, tmp_path):
    whole = files[1].read_bytes()
    bad = tmp_path / "bad.caffemodel"
    for length in range(0, len(whole) - 1, 7):
        bad.write_bytes(whole[:length])
        with pytest.raises(FormatError):
            caffe.load(files[0], bad)


def test_damage_of_any_kind_is_an_error_of_ours_or_none(files, tmp_path):
    rng = np.random.default_rng(0)
    bad = tmp_path / "bad"
    for path in files:
        whole = np.frombuffer(path.read_bytes(), "u1")
        failed = 0
        for _ in range(200):
            damaged = whole.copy()
            damaged[rng.integers(len(whole), size=3)] = rng.integers(256, size=3)
            bad.write_bytes(damaged.tobytes())
            caffe.matches(damaged.tobytes())
            try:
                caffe.load(*(bad if p is path else p for p in files))
            except FormatError as error:
                failed += 1
                assert "\n" not in str(error)
        assert failed > 20


def test_random_bytes_are_no_network(tmp_path):
    rng = np.random.default_rng(0)
    bad = tmp_path / "bad"
    for _ in range(200):
        content = rng.bytes(int(rng.integers(1, 200)))
        bad.write_bytes(content)
        with pytest.raises(FormatError):
            caffe.read(bad)


def test_a_network_too_deep_to_parse_is_damaged(tmp_path):
    path = tmp_path / "deep"
    path.write_text("layer { x " + "{ y " * 5000 + "}" * 5001)
    with pytest.raises(FormatError):
        caffe.load(path)


def test_the_schema_lives_beside_another_one_of_the_same_name():
    other = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    other.message_type.add(name="NetParameter")
    descriptor_pool.Default().AddSerializedFile(other.SerializeToString())
    assert caffe_pb2.NetParameter.DESCRIPTOR.full_name == "flambeau.caffe.NetParameter"


def test_the_schema_can_be_loaded_twice():
    code = Path(caffe_pb2.__file__).read_text()
    exec(code, {"__name__": "another.caffe_pb2"})
