"""The networks of zoo/models: names, shapes, values, files."""

import numpy as np
import pytest

from flambeau import nn, nngraph, zoo
from flambeau.zoo import models

PARAMETERS = {
    "alexnet": 61_100_840,
    "squeezenet1_0": 1_248_424,
    "squeezenet1_1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
}
SMALL = {  # one of each family: a small input, classes and an inner value
    "alexnet": (64, "features.5"),
    "squeezenet1_1": (32, "features.4.squeeze"),
    "vgg11_bn": (32, "features.6"),
    "resnet18": (33, "layer2.1.bn1"),
    "resnext50_32x4d": (32, "layer1.0.conv2"),
    "resnet20": (15, "layer3.0.downsample"),
    "efficientnet_lite0": (32, "_blocks.3._expand_conv"),
}
LISTED = [
    *("alexnet", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg13", "vgg16", "vgg16_bn", "vgg19"),
    *("vgg19_bn", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d"),
]


def unset(name, **options):
    """A network without weights: quick to make."""
    with nn.init.skipped():
        return models.build(name, **options)


def fresh(name):
    """A network of 5 classes, in evaluation, with running statistics as after training."""
    nn.seed(4)
    net = unset(name, num_classes=5).eval()
    if name.startswith(("alexnet", "vgg")):  # 50 to 120 million weights that all tests wait for
        net["classifier"] = nn.Sequential(nn.Linear(9216 if name == "alexnet" else 25088, 5))
    for array in net.parameters():
        scale = np.prod(array.shape[1:]) ** -0.5 if array.ndim > 1 else 1
        array[...] = np.float32(scale) * nn.init.normal(array.shape, 1)
    generator = np.random.default_rng(5)
    for path, array in net.named_buffers():
        if path.endswith(("running_mean", "running_var")):
            array[...] = generator.uniform(0.5, 1.5, array.shape)
    return net


def images(size, dtype="f4"):
    return np.random.default_rng(6).normal(size=(2, 3, size, size)).astype(dtype)


@pytest.mark.data
@pytest.mark.parametrize("name", LISTED)
def test_names_shapes_and_their_order_are_those_of_torchvision(name, data):
    text = (data.parent / "layouts" / "torchvision" / f"torchvision_{name}.txt").read_text()
    rows = [line.split("\t") for line in text.splitlines()]
    listed = [(key, tuple(int(n) for n in shape.split("x") if n)) for key, shape, _ in rows]
    state = unset(name).state_dict()
    assert [(key, value.shape) for key, value in state.items()] == listed


@pytest.mark.parametrize("name", models.NETWORKS)
def test_the_number_of_parameters_is_known(name):
    assert sum(p.size for p in unset(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", SMALL)
def test_a_network_saved_comes_back(name, tmp_path):
    net, x = fresh(name), images(SMALL[name][0])
    y = net(x)
    assert y.shape == (2, 5) and np.isfinite(y).all() and y.std() > 0
    net.save(tmp_path / "net.h5")
    again = nn.load(tmp_path / "net.h5")
    assert repr(again) == repr(net)
    assert np.array_equal(again(x), y)


@pytest.mark.parametrize("name", SMALL)
def test_a_network_can_be_cut_at_an_inner_value(name):
    net = fresh(name)
    size, inner = SMALL[name]
    part = net.until(inner)
    y = part(images(size))
    assert y.ndim == 4 and np.isfinite(y).all()
    assert not any(module.training for module in part.modules())
    mine = net.find(inner)
    assert part.find(inner) is mine
    weight = next((p.shape[0] for p in mine.parameters()), y.shape[1])
    assert y.shape[1] == weight


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_of_a_network_learns(name):
    net, x = fresh(name).train(), images(SMALL[name][0] * 2)
    for dropout in net.find(nn.Dropout):
        dropout.eval()
    y = net(x)
    net.backward(x, np.random.default_rng(7).normal(size=y.shape).astype("f4"))
    still = [
        n for n, g in zip(dict(net.named_parameters()), net.gradients(), strict=True) if not g.any()
    ]
    assert not still


@pytest.mark.parametrize("name", models.NETWORKS)
def test_the_structure_of_a_network_can_be_written_and_read(name):
    net = unset(name)
    with nn.init.skipped():
        assert repr(nn.saving.decode(net.config())) == repr(net)


def test_the_classifiers_are_those_of_the_papers():
    def kinds(name):
        return " ".join(type(module).__name__ for module in unset(name)["classifier"])

    assert kinds("alexnet") == "Dropout Linear ReLU Dropout Linear ReLU Linear"
    assert kinds("vgg16") == "Linear ReLU Dropout Linear ReLU Dropout Linear"
    assert kinds("squeezenet1_0") == "Dropout Conv2d ReLU AdaptiveAvgPool2d"


def test_features_and_classifier_can_be_reached():
    for name in ("alexnet", "squeezenet1_1", "vgg16"):
        net = unset(name)
        assert isinstance(net["features"][0], nn.Conv2d)
        assert net["classifier"].find(nn.Dropout)
    assert isinstance(unset("resnet50")["layer4"]["2"], nngraph.Graph)


def test_unknown_names_depths_and_options_are_refused():
    with pytest.raises(ValueError, match="'resnet51': did you mean.*resnet50"):
        models.build("resnet51")
    with pytest.raises(ValueError, match="'zzz': known: alexnet, "):
        models.build("zzz")
    with pytest.raises(ValueError, match="depth must be one of 11, 13, 16, 19 — got 12"):
        models.vgg(12)
    with pytest.raises(ValueError, match="depth must be one of 18, .* — got 20"):
        models.resnet(20)
    with pytest.raises(ValueError, match="depth 18 has neither groups nor"):
        models.resnet(18, groups=2)
    for depth in (2, 21):
        with pytest.raises(ValueError, match=r"6 n \+ 2, .* — got"):
            models.resnet_cifar(depth)
    with pytest.raises(ValueError, match="version must be 1.0 or 1.1 — got '1.2'"):
        models.squeezenet("1.2")
    with pytest.raises(ValueError, match="variant must be one of lite0, .* — got 'b0'"):
        models.efficientnet("b0")


@pytest.mark.parametrize("entry", zoo.list(), ids=lambda entry: entry.name)
def test_the_index_names_networks_that_exist(entry):
    assert entry.model == "caffe" or entry.variant in models.NETWORKS


@pytest.mark.parametrize("name", ["resnet20", "resnet34", "resnext50_32x4d", "vgg11_bn"])
def test_a_network_is_recognized_by_its_tensors(name):
    state = unset(name, num_classes=7).state_dict()
    old = {k: state[k] for k in sorted(state) if not k.endswith("num_batches_tracked")}
    found = models.recognize(old)
    assert repr(found) == repr(unset(name, num_classes=7))
    found.load_state_dict(old)


def test_tensors_of_another_network_are_not_recognized():
    state = unset("resnet18").state_dict()
    assert models.recognize(state | {"extra.weight": np.ones(1)}) is None
    assert models.recognize(state | {"conv1.weight": np.ones((64, 4, 7, 7))}) is None
    del state["bn1.weight"]
    assert models.recognize(state) is None
    assert models.recognize({}) is None


def straight(tensors, x):
    """The convolutions of AlexNet or VGG in PyTorch's functions, from their tensors."""
    import torch.nn.functional as F

    convolutions = [k[:-7] for k, v in tensors.items() if k.endswith(".weight") and v.ndim == 4]
    places = [int(name.split(".")[1]) for name in convolutions]
    large = tensors["features.0.weight"].shape[2] == 11  # AlexNet
    normalized = "features.1.weight" in tensors
    for name, place, after in zip(convolutions, places, [*places[1:], None], strict=True):
        first = {"stride": 4, "padding": 2}
        same = {"padding": tensors[f"{name}.weight"].shape[2] // 2}
        options = first if large and place == 0 else same
        x = F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], **options)
        if normalized:
            x = batch_norm(tensors, f"features.{place + 1}", x)
        x = x.relu()
        if after is None or after - place > 2 + normalized:
            x = F.max_pool2d(x, 3 if large else 2, 2)
    return F.adaptive_avg_pool2d(x, 6 if large else 7).flatten(1)


def batch_norm(tensors, name, x):
    import torch.nn.functional as F

    order = "running_mean", "running_var", "weight", "bias"
    return F.batch_norm(x, *(tensors[f"{name}.{key}"] for key in order))


def residual(tensors, x, groups):
    """A ResNet in PyTorch's functions, from its tensors."""
    import torch.nn.functional as F

    def conv_bn(x, conv, bn, **options):
        return batch_norm(tensors, bn, F.conv2d(x, tensors[f"{conv}.weight"], **options))

    def block(x, name, stride):
        deep, wide = f"{name}.conv3.weight" in tensors, f"{name}.downsample.0.weight" in tensors
        short = x
        if wide:
            short = conv_bn(x, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)
        h = x
        for i in (1, 2, 3) if deep else (1, 2):
            size = tensors[f"{name}.conv{i}.weight"].shape[2]
            options = {"padding": size // 2, "stride": stride if i == (2 if deep else 1) else 1}
            options["groups"] = groups if size == 3 else 1
            h = conv_bn(h, f"{name}.conv{i}", f"{name}.bn{i}", **options)
            h = h if i == (3 if deep else 2) else h.relu()
        return (h + short).relu()

    x = conv_bn(x, "conv1", "bn1", stride=2, padding=3).relu()
    x = F.max_pool2d(x, 3, 2, 1)
    for i in (1, 2, 3, 4):
        count = len({k.split(".")[1] for k in tensors if k.startswith(f"layer{i}.")})
        for j in range(count):
            x = block(x, f"layer{i}.{j}", 2 if i > 1 and j == 0 else 1)
    return F.linear(x.mean((2, 3)), tensors["fc.weight"], tensors["fc.bias"])


def agree_with_pytorch(net, function, x):
    """y and dx of a network in evaluation are those of a function of (its tensors, x)."""
    import torch

    tensors = {k: torch.from_numpy(v.copy()) for k, v in net.state_dict().items()}
    theirs = torch.from_numpy(x.copy()).requires_grad_()
    out = function(tensors, theirs)
    dy = np.random.default_rng(8).normal(size=out.shape)
    out.backward(torch.from_numpy(dy))
    y, dx = net(x), net.backward(x, dy)
    for mine, other in ((y, out.detach().numpy()), (dx, theirs.grad.numpy())):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-9 * np.abs(other).max())


@pytest.mark.torch
@pytest.mark.parametrize("name", ["alexnet", "vgg11_bn", "vgg13"])
def test_features_and_their_gradients_are_those_of_pytorch(name):
    net = fresh(name).until("flatten").astype("f8")
    agree_with_pytorch(net, straight, images(67, "f8"))


@pytest.mark.torch
@pytest.mark.parametrize("name, groups", [("resnet18", 1), ("resnext50_32x4d", 32)])
def test_logits_and_gradients_are_those_of_pytorch(name, groups):
    net = fresh(name).astype("f8")
    agree_with_pytorch(net, lambda tensors, x: residual(tensors, x, groups), images(40, "f8"))


@pytest.mark.data
def test_efficientnet_lite0_gives_the_logits_of_the_network_it_was_trained_as(data):
    reference = np.load(data / "torch" / "efficientnet_lite0_reference.npz")
    net = zoo.load("efficientnet-lite0")
    # the reference was computed on ImageNet's mean and deviation, not on this network's own
    normalize = zoo.index.get("resnet18").preprocessing.normalize
    y = net(normalize(reference["rgb224"].transpose(0, 3, 1, 2)))
    assert np.abs(y - reference["efflite0_logits"]).max() < 1e-3


@pytest.mark.parametrize("i, size", list(enumerate((224, 240, 260, 280, 300))))
def test_efficientnet_pads_as_tensorflow_does_at_its_own_size(i, size):
    blocks = unset(f"efficientnet_lite{i}")["_blocks"]
    extent = size // 2
    for block in blocks:
        convolution = block["_depthwise_conv"]
        (stride, _), (kernel, _), (padding, _) = (
            getattr(convolution, name) for name in ("stride", "kernel_size", "padding")
        )
        pad = block["pad"].padding if "pad" in dict(block.children()) else (padding,) * 4
        left, right, top, bottom = pad
        windows = (extent + left + right - kernel) / stride + 1
        assert windows == -(-extent // stride)  # "same": as many as strides, and none left over
        assert (left, right) == (top, bottom) and 0 <= right - left <= 1
        extent = int(windows)
    assert extent == -(-size // 32)


@pytest.mark.data
def test_squeezenet_gives_caffes_logits(data):
    reference = np.load(data / "caffe" / "squeezenet_reference.npz")
    x = reference["rgb_uint8"].transpose(0, 3, 1, 2)[:, ::-1].astype("f4")
    x -= reference["mean_bgr"].reshape(3, 1, 1)
    net = zoo.load(data / "torch" / "squeezenet1_0_zip.pth")
    net["classifier"]["1"].padding = 1, 1  # as its authors' file has it, unlike torchvision
    y = net(x)
    expected = reference["caffe_pool10"]
    assert np.array_equal(y.argmax(1), expected.argmax(1))
    assert np.abs(y - expected).max() < 1e-3


@pytest.mark.data
def test_resnet20_takes_its_trained_weights(data):
    path = data / "torch" / "resnet20-12fca82f.th"
    net = models.resnet_cifar(20).load_state_dict(zoo.read(path)).eval()
    assert repr(zoo.load(path)) == repr(net)
    y = net(images(32))
    assert y.shape == (2, 10) and np.isfinite(y).all()


def test_the_shortcut_without_parameters_takes_every_second_pixel_and_adds_channels():
    x = np.random.default_rng(1).normal(size=(2, 16, 5, 7)).astype("f4")
    block = models.resnet_cifar(20)["layer2"]["0"]
    y = block.until("downsample")(x)
    assert y.shape == (2, 32, 3, 4)
    assert np.array_equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()
