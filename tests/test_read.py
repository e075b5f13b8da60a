"""A file's format is found by its content, and its tensors come out by name."""

import io
import pickle
import random
import struct
import zipfile

import numpy as np
import pytest

from flambeau import zoo
from flambeau.zoo import FormatError, hdf5, pytorch, safetensors

KERAS_CONFIG = '{"class_name": "Sequential"}'


@pytest.fixture
def arrays():
    source = np.random.default_rng(0)
    return {
        "conv.weight": source.standard_normal((2, 3, 3, 3)).astype("f4"),
        "conv.bias": np.arange(2, dtype="f8"),
        "count": np.array(7),
    }


def write_hdf5(path, arrays, **attributes):
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        for name, array in arrays.items():
            file[name.replace(".", "/")] = array
    return path


def write_safetensors(path, arrays):
    from safetensors.numpy import save_file

    save_file(arrays, path)
    return path


def agree(found, expected):
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


# ---- each format


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path, arrays):
    path = write_safetensors(tmp_path / "weights.pth", arrays)
    assert zoo.kind(path) == "safetensors"
    agree(zoo.read(path), arrays)


def test_hdf5_datasets_are_read_by_path(tmp_path, arrays):
    path = write_hdf5(tmp_path / "weights.bin", arrays)
    assert zoo.kind(path) == "hdf5"
    agree(zoo.read(path), {name.replace(".", "/"): array for name, array in arrays.items()})


def test_hdf5_behind_a_user_block_is_found(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x", "w", userblock_size=512) as file:
        file["w"] = np.ones(3)
    assert zoo.kind(tmp_path / "x") == "hdf5"
    agree(zoo.read(tmp_path / "x"), {"w": np.ones(3)})


def test_texts_in_hdf5_are_arrays_of_str(tmp_path):
    path = write_hdf5(tmp_path / "x.h5", {"labels": ["cat", "dog"], "title": "animals"})
    found = zoo.read(path)
    assert found["labels"].tolist() == ["cat", "dog"] and found["title"] == "animals"


def test_keras_files_of_every_age_are_told_from_other_hdf5(tmp_path, arrays):
    old = write_hdf5(tmp_path / "old.h5", arrays, layer_names=[b"conv"])
    whole = write_hdf5(tmp_path / "whole.h5", arrays, model_config=KERAS_CONFIG)
    new = write_hdf5(tmp_path / "new.weights.h5", {"layers.dense.vars.0": np.ones(2)})
    assert [zoo.kind(path) for path in (old, whole, new)] == ["keras"] * 3
    agree(zoo.read(new), {"layers/dense/vars/0": np.ones(2)})


def test_a_keras_archive_gives_the_weights_inside(tmp_path):
    weights = write_hdf5(tmp_path / "w.h5", {"layers.dense.vars.0": np.ones(2)})
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", KERAS_CONFIG)
        archive.write(weights, "model.weights.h5")
    assert zoo.kind(tmp_path / "x.keras") == "keras"
    agree(zoo.read(tmp_path / "x.keras"), {"layers/dense/vars/0": np.ones(2)})


def test_a_pickle_of_arrays_is_read_like_a_pytorch_file(tmp_path, arrays):
    for protocol in range(2, 6):
        (tmp_path / "x.pkl").write_bytes(pickle.dumps(arrays, protocol))
        assert zoo.kind(tmp_path / "x.pkl") == "pytorch"
        agree(zoo.read(tmp_path / "x.pkl"), arrays)


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_pytorch_files_are_read_whatever_they_are_called(tmp_path, arrays, zipped):
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(tensors, tmp_path / "x.bin", _use_new_zipfile_serialization=zipped)
    assert zoo.kind(tmp_path / "x.bin") == "pytorch"
    agree(zoo.read(tmp_path / "x.bin"), arrays)


@pytest.mark.torch
def test_bfloat16_in_safetensors_becomes_float32_exactly(tmp_path):
    import torch
    from safetensors.torch import save_file

    x = torch.arange(65536).to(torch.uint16).view(torch.bfloat16).reshape(256, 256)
    save_file({"x": x, "y": torch.ones(3)}, tmp_path / "x")
    found = zoo.read(tmp_path / "x")
    np.testing.assert_array_equal(found["x"].view("u4"), x.float().numpy().view("u4"))
    np.testing.assert_array_equal(found["y"], np.ones(3, "f4"))


@pytest.mark.torch
def test_float8_in_safetensors_is_refused_by_name(tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"scale": torch.zeros(2, dtype=torch.float8_e5m2)}, tmp_path / "x")
    with pytest.raises(FormatError, match="x has F8_E5M2 numbers in scale"):
        zoo.read(tmp_path / "x")


# ---- the real files


@pytest.mark.data
@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("torch/*.*th", "pytorch"),
        ("caffe/**/*.caffemodel", "caffe"),
        ("caffe/**/*.prototxt", "prototxt"),
        ("torch7/*.t7", "torch7"),
        ("torch7/*.net", "torch7"),
    ],
)
def test_the_format_of_every_real_file_is_found(data, pattern, expected):
    paths = sorted(data.glob(pattern))
    assert len(paths) >= 2
    assert {path.name: zoo.kind(path) for path in paths} == {path.name: expected for path in paths}


@pytest.mark.data
def test_caffe_weights_are_read_by_layer_and_position(data):
    found = zoo.read(data / "caffe" / "squeezenet_v1.0.caffemodel")
    assert found["conv1.0"].shape == (96, 3, 7, 7) and found["conv1.1"].size == 96
    assert sum(array.size for array in found.values()) == 1248424


@pytest.mark.data
def test_the_same_weights_come_out_of_caffe_and_pytorch_files(data):
    caffe = zoo.read(data / "caffe" / "squeezenet_v1.0.caffemodel")
    torch = zoo.read(data / "torch" / "squeezenet1_0_zip.pth")
    np.testing.assert_array_equal(torch["classifier.1.weight"].ravel(), caffe["conv10.0"].ravel())


@pytest.mark.data
def test_a_description_without_weights_says_so(data):
    with pytest.raises(FormatError, match="lenet.prototxt describes a network and has no weights"):
        zoo.read(data / "caffe" / "prototxt" / "lenet.prototxt")
    with pytest.raises(FormatError, match="is a whole network, not tensors by name"):
        zoo.read(data / "torch7" / "road-net_u1net.net")


# ---- what cannot be read


@pytest.mark.parametrize(
    "said, content",
    [
        ("is empty", b""),
        ("is in no format that flambeau reads", b"x"),
        ("is in no format that flambeau reads", bytes(range(40, 256)) * 9),
        ("is a web page", b"\n<!DOCTYPE html><html>404</html>"),
        ("is a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        ("is packed with gzip", b"\x1f\x8b\x08" + bytes(20)),
        ("is a NumPy array", b"\x93NUMPY\x01\x00"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_advice(tmp_path, said, content):
    (tmp_path / "x.pth").write_bytes(content)
    for function in (zoo.kind, zoo.read):
        with pytest.raises(FormatError, match=rf"^x\.pth {said}"):
            function(tmp_path / "x.pth")


def test_another_zip_archive_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    with pytest.raises(FormatError, match="zip archive, but not PyTorch's or Keras's"):
        zoo.kind(tmp_path / "x.npz")


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    for function in (zoo.kind, zoo.read, hdf5.read, safetensors.read, pytorch.read):
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "x.pth")


@pytest.mark.parametrize("header", [b"{", b'{"a": 1}', b'{"a":{"dtype":"F32","shape":[9]}}'])
def test_a_damaged_safetensors_file_is_refused(tmp_path, header):
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(FormatError, match="^x is not a sound safetensors file"):
        zoo.read(tmp_path / "x")


def test_hdf5_numbers_in_another_file_are_refused(tmp_path):
    import h5py

    (tmp_path / "secret").write_bytes(bytes(32))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("w", (4,), "f8", external=[(str(tmp_path / "secret"), 0, 32)])
    with pytest.raises(FormatError, match="x.h5 has a dataset /w whose numbers lie in another"):
        zoo.read(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/w")
        file["w"] = np.ones(2)
    agree(zoo.read(tmp_path / "x.h5"), {"w": np.ones(2)})


def test_an_hdf5_dataset_far_larger_than_its_file_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("w", (2**40,), "f4", chunks=(1024,))
    with pytest.raises(FormatError, match="x.h5 has a dataset /w of 4398046511104 bytes"):
        zoo.read(tmp_path / "x.h5")


def test_hdf5_that_is_no_tensor_is_refused_by_name(tmp_path):
    import h5py

    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["ragged"] = h5py.Empty("f4")
    with pytest.raises(FormatError, match="x.h5 has a dataset /ragged without a shape"):
        zoo.read(tmp_path / "x.h5")


def test_hdf5_is_read_from_an_open_file(tmp_path, arrays):
    path = write_hdf5(tmp_path / "x.h5", {"w": arrays["count"]})
    agree(hdf5.read(io.BytesIO(path.read_bytes())), {"w": arrays["count"]})


@pytest.mark.parametrize("write", [write_hdf5, write_safetensors])
def test_a_truncated_file_is_refused_in_a_sentence(tmp_path, arrays, write):
    path = write(tmp_path / "x", arrays)
    whole = path.read_bytes()
    chance = random.Random(0)
    for length in [0, 1, 8, 9, *(chance.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(whole[:length])
        with pytest.raises(FormatError, match="^x [a-z]") as caught:
            zoo.read(path)
        assert "\n" not in str(caught.value)


def test_content_that_is_random_is_never_more_than_refused(tmp_path):
    chance = random.Random(0)
    starts = (b"", b"PK\3\4", b"\x80\2", b"\x89HDF\r\n\x1a\n", b"\4\0\0\0\1\0\0\0", b"\x08\7\x12")
    for start in starts:
        for _ in range(50):
            (tmp_path / "x").write_bytes(start + chance.randbytes(chance.randrange(400)))
            with pytest.raises(FormatError, match="^(.*/)?x[: ]"):
                zoo.read(tmp_path / "x")
