"""From a name or files to a network, and back to a file."""

import re

import numpy as np
import pytest

from flambeau import nn, zoo
from flambeau.zoo import index, models
from flambeau.zoo.errors import FormatError


def small():
    """A network of one's own."""
    nn.seed(0)
    return nn.Sequential(("scores", nn.Linear(3, 2)))


@pytest.fixture
def tensors(tmp_path):
    """A safetensors file of resnet20's names, for seven classes, and the network."""
    from safetensors.numpy import save_file

    nn.seed(0)
    network = models.build("resnet20", num_classes=7)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors", network


def test_what_is_saved_comes_back_with_preprocessing_and_labels(tmp_path):
    net = small()
    net.name, net.labels = "pair", ["a", "b"]
    net.preprocessing = zoo.Preprocessing((8, 6), resize=9, mean=(1.0, 2.0, 3.0), channels="BGR")
    zoo.save(net, tmp_path / "net.h5")
    again = zoo.load(tmp_path / "net.h5")
    assert (again.name, again.labels, again.preprocessing) == (
        "pair",
        ["a", "b"],
        net.preprocessing,
    )
    assert not again.training
    assert np.array_equal(again["scores"].weight, net["scores"].weight)


def test_a_network_saved_without_them_has_the_files_name(tmp_path):
    small().save(tmp_path / "bare.h5")
    net = zoo.load(tmp_path / "bare.h5")
    assert (net.name, net.preprocessing, net.labels) == ("bare", None, None)


def test_the_architecture_is_recognised_by_the_tensors(tensors):
    path, network = tensors
    net = zoo.load(path)
    assert repr(net) == repr(network) and net.name == "mine"
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32), np.float32)
    assert np.array_equal(net(x), network.eval()(x))


@pytest.mark.parametrize("by_name", [True, False])
def test_the_architecture_may_be_given(by_name, tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "mine.safetensors"
    if by_name:
        network = models.build("squeezenet1_1")
        save_file(network.state_dict(), path)
        net = zoo.load(path, model="squeezenet1_1")
    else:
        network = small()
        save_file(network.state_dict(), path)
        net = zoo.load(path, model=nn.Sequential(("scores", nn.Linear(3, 2))))
    assert all(map(np.array_equal, net.parameters(), network.parameters()))


def test_tensors_of_no_known_network_are_an_error_that_names_some(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "mine.safetensors"
    save_file(small().state_dict(), path)
    with pytest.raises(FormatError, match=r"holds 2 tensors \(scores.*, …\) of no network"):
        zoo.load(path)


def test_a_file_comes_before_a_name_of_the_index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small().save("resnet18")
    assert len(zoo.load("resnet18").parameters()) == 2


def test_every_name_of_the_index_has_a_definition():
    for entry in zoo.list():
        assert entry.model == "caffe" or entry.variant in models.NETWORKS
        assert index.labels(entry.labels)


@pytest.mark.parametrize(
    "sources, error, expected",
    [
        (["resnet81"], ValueError, "no trained network is called 'resnet81': did you mean"),
        (["missing.pth"], FileNotFoundError, "there is no file 'missing.pth'"),
        (["a.h5", "b.h5"], ValueError, "must be a prototxt and a caffemodel — got a.h5 (hdf5)"),
    ],
)
def test_what_cannot_be_loaded_is_said(sources, error, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small().save("a.h5")
    small().save("b.h5")
    with pytest.raises(error, match=re.escape(expected)):
        zoo.load(*sources)


@pytest.mark.data
def test_caffes_two_files_may_come_in_any_order(data):
    prototxt, weights = data / "caffe/lenet_v1.prototxt", data / "caffe/lenet_v1.caffemodel"
    one, other = zoo.load(prototxt, weights), zoo.load(weights, prototxt)
    assert np.array_equal(one["conv1"].weight, other["conv1"].weight)
    fresh = zoo.load(prototxt)
    assert not np.array_equal(one["conv1"].weight, fresh["conv1"].weight)
    with pytest.raises(FormatError, match=r"the structure is in the prototxt: zoo.load\(prototxt"):
        zoo.load(weights)


@pytest.mark.data
def test_formats_that_cannot_be_loaded_yet_say_so(data):
    with pytest.raises(FormatError, match="is a torch7 network, which cannot be loaded yet"):
        zoo.load(data / "torch7/doubletensor.t7")
