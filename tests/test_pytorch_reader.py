"""PyTorch's files: what comes out of sound ones, and that hostile or damaged ones only fail."""

import argparse
import collections
import copyreg
import functools
import io
import os
import pickle
import random
import re
import struct
import zipfile

import numpy as np
import pytest

from flambeau.zoo import FormatError, pytorch

DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool "
    "complex64 complex128"
).split()
CONTAINERS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def write(path, obj, protocol=2):
    """A zip container as PyTorch writes it, around any pickle."""
    data = obj if isinstance(obj, bytes) else pickle.dumps(obj, protocol)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
    return path


def save(obj, path, zipped=True):
    import torch

    torch.save(obj, path, _use_new_zipfile_serialization=zipped)
    return path


def tensor_pickle(count, offset, size, stride, key="0"):
    """{"w": tensor} over a FloatStorage of count numbers, in protocol 2 by hand."""

    def number(n):
        return pickle.dumps(n, 2)[2:-1]

    return (
        b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"
        b"FloatStorage\n" + number(key) + number("cpu") + number(count) + b"tQ" + number(offset)
    ) + (number(size) + number(stride) + b"\x89ccollections\nOrderedDict\n)RtRs.")


def container(path, pickled, data, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/data/0", data)
    return path


# ---- what PyTorch writes


@pytest.mark.torch
@CONTAINERS
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_read_exactly(tmp_path, dtype, zipped):
    import torch

    x = torch.tensor([0, 1, 3, 2, 100, 1]).to(getattr(torch, dtype)).reshape(2, 3)
    found = pytorch.read(save({"x": x}, tmp_path / "x.pth", zipped))["x"]
    expected = (x.float() if dtype == "bfloat16" else x).numpy()
    assert found.dtype == expected.dtype and found.shape == (2, 3)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.torch
def test_bfloat16_keeps_every_bit(tmp_path):
    import torch

    x = torch.arange(65536).to(torch.uint16).view(torch.bfloat16)
    found = pytorch.read(save({"x": x}, tmp_path / "x.pth"))["x"]
    np.testing.assert_array_equal(found.view(np.uint32), x.float().numpy().view(np.uint32))


@pytest.mark.torch
@CONTAINERS
def test_strides_offsets_and_sharing_are_kept(tmp_path, zipped):
    import torch

    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "base": base,
        "transposed": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "wide": base[0, 0, :1].expand(5, 1),
        "scalar": base[1, 2, 3],
        "empty": base[:, :0],
        "none": torch.empty(0),
    }
    found = pytorch.read(save(tensors, tmp_path / "x.pth", zipped))
    for name, tensor in tensors.items():
        assert found[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(found[name], tensor.numpy())
    found["base"][1, 1, 2] = -1
    assert found["part"][0, 1] == -1 and found["transposed"][2, 1, 1] == -1


@pytest.mark.torch
@CONTAINERS
def test_a_checkpoint_gives_everything_and_read_gives_the_state_dict(tmp_path, zipped):
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    attributed = torch.ones(2)
    attributed.note = "a"
    whole = {
        "epoch": 3,
        "state_dict": collections.OrderedDict(
            ("module." + key, value) for key, value in net.state_dict().items()
        ),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1, names=["a", "b"]),
        "best": np.float64(0.5),
        "curve": np.arange(6, dtype=">f4").reshape(2, 3),
        "milestones": collections.Counter([1, 1, 2]),
        "size": torch.Size([2, 3]),
        "device": torch.device("cuda:0"),
        "dtype": torch.float32,
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "attributed": attributed,
        "set": {1, 2},
        "bytes": b"\x00\xff",
    }
    path = save(whole, tmp_path / "x.pth", zipped)
    found = pytorch.read(path)
    assert list(found) == list(net.state_dict())
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(found[key], value.numpy())
    rest = pytorch.checkpoint(path)
    assert rest["epoch"] == 3 and rest["best"] == 0.5 and rest["set"] == {1, 2}
    assert rest["args"] == {"lr": 0.1, "names": ["a", "b"]}
    assert rest["milestones"] == {1: 2, 2: 1} and rest["size"] == (2, 3)
    assert rest["device"] == "cuda:0" and repr(rest["dtype"]) == "torch.float32"
    assert rest["bytes"] == b"\x00\xff"
    np.testing.assert_array_equal(rest["curve"], whole["curve"])
    np.testing.assert_array_equal(rest["parameter"], 1)
    np.testing.assert_array_equal(rest["attributed"], 1)
    step = whole["optimizer"]["state"][0]["exp_avg"].numpy()
    np.testing.assert_array_equal(rest["optimizer"]["state"][0]["exp_avg"], step)


@pytest.mark.torch
@pytest.mark.parametrize("wrapper", pytorch.WRAPPERS)
def test_a_wrapped_state_dict_is_unwrapped(tmp_path, wrapper):
    import torch

    path = save({wrapper: {"a.weight": torch.ones(2)}, "epoch": 1}, tmp_path / "x.pth")
    assert list(pytorch.read(path)) == ["a.weight"]


@pytest.mark.torch
def test_the_module_prefix_stays_unless_every_name_has_it(tmp_path):
    import torch

    path = save({"module.a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "x.pth")
    assert list(pytorch.read(path)) == ["module.a", "b"]


@pytest.mark.torch
@pytest.mark.parametrize("protocol", [3, 4, 5])
@CONTAINERS
def test_newer_pickle_protocols_are_read(tmp_path, protocol, zipped):
    import torch

    obj = {"x": torch.arange(3.0), "y": np.arange(4), "z": np.float32(2)}
    options = {"pickle_protocol": protocol, "_use_new_zipfile_serialization": zipped}
    torch.save(obj, tmp_path / "x.pth", **options)
    found = pytorch.read(tmp_path / "x.pth")
    np.testing.assert_array_equal(found["x"], [0, 1, 2])
    np.testing.assert_array_equal(found["y"], [0, 1, 2, 3])
    assert found["z"] == 2 and found["z"].dtype == np.float32


@pytest.mark.torch
def test_torchscript_gives_its_tensors_by_name(tmp_path):
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sequential(torch.nn.BatchNorm1d(3)))
    with pytest.warns(DeprecationWarning):
        torch.jit.script(net).save(str(tmp_path / "x.pt"))
    found = pytorch.read(tmp_path / "x.pt")
    assert sorted(found) == sorted(net.state_dict())
    for key, value in net.state_dict().items():
        np.testing.assert_array_equal(found[key], value.numpy())


@pytest.mark.torch
def test_files_without_checksums_are_read(tmp_path):
    import torch

    torch.serialization.set_crc32_options(False)
    try:
        save({"x": torch.arange(3.0)}, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_array_equal(pytorch.read(tmp_path / "x.pth")["x"], [0, 1, 2])


@pytest.mark.torch
@CONTAINERS
def test_what_has_no_array_is_refused_with_advice(tmp_path, zipped):
    import torch

    cases = {
        "holds float8_e4m3fn numbers": torch.zeros(2, dtype=torch.float8_e4m3fn),
        "_rebuild_sparse_tensor": torch.sparse_coo_tensor(
            [[0]], [1.0], (3,), check_invariants=True
        ),
        "resolve_conj": torch.zeros(2, dtype=torch.complex64).conj(),
        "save model.state_dict()": torch.nn.Linear(2, 2),
    }
    for said, value in cases.items():
        with pytest.raises(FormatError, match=r"^x\.pth .*" + re.escape(said)):
            pytorch.read(save({"x": value}, tmp_path / "x.pth", zipped))


@pytest.mark.torch
def test_a_list_of_tensors_is_no_state_dict(tmp_path):
    import torch

    path = save([torch.ones(2)], tmp_path / "x.pth")
    with pytest.raises(FormatError, match="holds a list, not a dict of tensors"):
        pytorch.read(path)
    path = save({"encoder": {"w": torch.ones(2)}}, tmp_path / "x.pth")
    with pytest.raises(FormatError, match=r"a dict under encoder.*zoo\.pytorch\.checkpoint"):
        pytorch.read(path)


# ---- real files


@pytest.mark.data
@pytest.mark.torch
@pytest.mark.parametrize("name", ["resnet20-12fca82f.th", "squeezenet1_0_zip.pth"])
def test_real_files_equal_what_pytorch_reads(data, name):
    import torch

    expected = torch.load(data / "torch" / name, map_location="cpu", weights_only=False)
    expected = expected.get("state_dict", expected)
    found = pytorch.read(data / "torch" / name)
    assert len(found) == len(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(found[key.removeprefix("module.")], value.numpy())


@pytest.mark.data
def test_numbers_beside_the_weights_are_in_the_checkpoint(data):
    whole = pytorch.checkpoint(data / "torch" / "resnet20-12fca82f.th")
    assert round(whole["best_prec1"], 2) == 91.78


# ---- hostile files


class Call:
    """Pickles into a call of function(*args)."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


MARKER = "flambeau-ran-this"
HOSTILE = {
    f"{os.name}.system": Call(os.system, f"touch {MARKER}"),
    "builtins.eval": Call(eval, f"open({MARKER!r}, 'w')"),
    "builtins.exec": Call(exec, f"open({MARKER!r}, 'w')"),
    "builtins.getattr": Call(getattr, {}, "clear"),
    f"{io.open.__module__}.open": Call(io.open, MARKER, "w"),
    "functools.partial": Call(functools.partial, print),
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("bare", [True, False], ids=["bare", "zip"])
def test_foreign_calls_are_refused_by_name(tmp_path, monkeypatch, name, protocol, bare):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps({"w": HOSTILE[name]}, protocol)
    (tmp_path / "x.pth").write_bytes(data)
    if not bare:
        write(tmp_path / "x.pth", data)
    named = name if protocol > 2 else name.replace("builtins", "__builtin__")
    with pytest.raises(FormatError, match=rf"^x\.pth names ({name}|{named}), which is not part of"):
        pytorch.read(tmp_path / "x.pth")
    assert os.listdir(tmp_path) == ["x.pth"]


@pytest.mark.parametrize(
    "said, data",
    {
        "names os.system,": b"cos\nsystem\n(S'true'\ntR.",
        "names os.popen,": b"(S'true'\nios\npopen\n.",
        "names subprocess.Popen,": b"(csubprocess\nPopen\nS'true'\no.",
        "names collections.OrderedDict.fromkeys": b"\x80\x04\x8c\x0bcollections\x8c\x14"
        b"OrderedDict.fromkeys\x93.",
        "uses the pickle instruction INST": b"(icollections\nOrderedDict\n.",
        "uses the pickle instruction OBJ": b"(ccollections\nOrderedDict\no.",
        "uses the pickle instruction EXT1": b"\x80\x02\x82\x01)R.",
        "uses the pickle instruction EXT2": b"\x80\x02\x83\x01\x01)R.",
        "uses the pickle instruction NEWOBJ_EX": b"\x80\x04ccollections\nOrderedDict\n)}\x92.",
        "uses the pickle instruction NEXT_BUFFER": b"\x80\x05\x97.",
        "calls torch.FloatStorage": b"\x80\x02ctorch\nFloatStorage\n)R.",
        "calls a list": b"\x80\x02])R.",
        "sets the state of a list": b"\x80\x02]}b.",
        "names something by a list": b"\x80\x04\x8c\x02os]\x93.",
        "refers to what is not a storage": b"\x80\x02(X\x01\0\0\0aNNNNtQ.",
        "has a dict or set with a tuple for a key": b"\x80\x02})\x85\x85Ns.",
        "has a dict or set with a list for a key": b"\x80\x02}]Ns.",
    }.items(),
)
def test_instructions_beyond_plain_data_are_refused(tmp_path, said, data):
    with pytest.raises(FormatError, match=rf"^x\.pth {said}"):
        pytorch.read(write(tmp_path / "x.pth", data))


def test_registered_extension_codes_are_not_served(tmp_path, monkeypatch):
    copyreg.add_extension("os", "getcwd", 0x7E)
    try:
        data = pickle.dumps(Call(os.getcwd), 2).replace(b"cposix\ngetcwd\n", b"\x82\x7e")
        with pytest.raises(FormatError, match="EXT1"):
            pytorch.read(write(tmp_path / "x.pth", data))
    finally:
        copyreg.remove_extension("os", "getcwd", 0x7E)


def test_functions_of_the_reader_cannot_be_changed_by_a_file(tmp_path):
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x04\0\0\0callNs\x86b."
    with pytest.raises(FormatError, match="sets the state of a Global"):
        pytorch.read(write(tmp_path / "x.pth", data))


@pytest.mark.parametrize(
    "count, offset, size, stride",
    [
        (4, 0, (5,), (1,)),
        (4, 1, (4,), (1,)),
        (4, 0, (2, 2), (3, 2)),
        (4, -1, (2,), (1,)),
        (4, 0, (-1,), (1,)),
        (4, 3, (2,), (-1,)),
        (4, 0, (2,), (1, 1)),
        (4, 0, (2**40, 2**40), (0, 0)),
        (4, 0, (0, 2**62, 2**62), (1, 1, 1)),
        (4, 0, (2**70,), (0,)),
        (4, 0, (1,) * 40, (1,) * 40),
        (4, True, (2,), (1,)),
        (4, 0, [2], [1]),
        (5, 0, (4,), (1,)),
        (2**61, 0, (4,), (1,)),
        (-4, 0, (4,), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, count, offset, size, stride):
    data = np.arange(4, dtype="f4").tobytes()
    path = container(tmp_path / "x.pth", tensor_pickle(4, 0, (4,), (1,)), data)
    np.testing.assert_array_equal(pytorch.read(path)["w"], [0, 1, 2, 3])
    path = container(tmp_path / "x.pth", tensor_pickle(count, offset, size, stride), data)
    with pytest.raises(FormatError, match=r"^x\.pth "):
        pytorch.read(path)


def test_compressed_entries_are_read_and_bombs_are_not(tmp_path):
    weights = np.random.default_rng(0).integers(0, 9, 1000).astype("f4")
    pickled = tensor_pickle(1000, 0, (1000,), (1,))
    path = container(tmp_path / "x.pth", pickled, weights.tobytes(), zipfile.ZIP_DEFLATED)
    np.testing.assert_array_equal(pytorch.read(path)["w"], weights)
    pickled = tensor_pickle(10**6, 0, (10**6,), (1,))
    path = container(tmp_path / "x.pth", pickled, bytes(4 * 10**6), zipfile.ZIP_DEFLATED)
    with pytest.raises(FormatError, match="unpacks to over 100 times its size"):
        pytorch.read(path)


def test_a_small_file_cannot_copy_itself_into_much_memory(tmp_path):
    text = b"X" + struct.pack("<I", 10**5) + b"a" * 10**5
    again = b"c_codecs\nencode\nh\0X\x06\0\0\0latin1\x86R"
    data = b"\x80\x02" + text + b"q\0](" + again * 1000 + b"e."
    with pytest.raises(FormatError, match="far more than its own size"):
        pytorch.read(write(tmp_path / "x.pth", data))


def test_forged_indices_and_lengths_take_no_memory(tmp_path):
    huge = struct.pack("<Q", 2**62)
    assert pytorch.read(write(tmp_path / "x.pth", b"\x80\x02}r\xff\xff\xff\xff.")) == {}
    for data in (b"\x80\x04\x8d" + huge, b"\x80\x05\x96" + huge):
        with pytest.raises(FormatError, match=r"^x\.pth "):
            pytorch.read(write(tmp_path / "x.pth", data))
        (tmp_path / "x.pth").write_bytes(data)
        with pytest.raises(FormatError, match=r"^x\.pth "):
            pytorch.read(tmp_path / "x.pth")


def test_deep_and_circular_values_neither_recurse_nor_hang(tmp_path):
    deep = b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."
    with pytest.raises(FormatError, match="holds a list"):
        pytorch.read(write(tmp_path / "x.pth", deep))
    circle = {}
    circle["model"] = circle
    with pytest.raises(FormatError, match="a dict under model"):
        pytorch.read(write(tmp_path / "x.pth", circle))
    script = b"\x80\x02c__torch__\nNet\n)\x81q\0}X\x01\0\0\0ah\0sb."
    with pytest.raises(FormatError, match="without end"):
        pytorch.read(write(tmp_path / "x.pth", script))


# ---- damaged files


def legacy():
    """A file of the legacy container, by hand: {"w": 4 floats}."""
    heads = [pickle.dumps(x, 2) for x in (pytorch.MAGIC, 1001, {"little_endian": True})]
    storages = pickle.dumps(["0"], 2) + struct.pack("<q", 4) + np.arange(4, dtype="f4").tobytes()
    # the legacy reference to a storage ends with the part of it that is seen, here all
    pickled = tensor_pickle(4, 0, (4,), (1,)).replace(b"K\x04tQ", b"K\x04NtQ")
    return b"".join(heads) + pickled + storages


def big_endian():
    text = legacy().replace(
        pickle.dumps({"little_endian": True}, 2), b"\x80\x02}X\r\0\0\0" + (b"little_endian\x89s.")
    )
    return text[:-24] + struct.pack(">q", 4) + np.arange(4, dtype=">f4").tobytes()


@pytest.mark.parametrize("make", [legacy, big_endian])
def test_the_legacy_container_is_read_in_both_byte_orders(tmp_path, make):
    (tmp_path / "x.th").write_bytes(make())
    np.testing.assert_array_equal(pytorch.read(tmp_path / "x.th")["w"], [0, 1, 2, 3])


def test_every_truncation_is_refused_in_a_sentence(tmp_path):
    path = container(tmp_path / "x.pth", tensor_pickle(4, 0, (4,), (1,)), bytes(16))
    for whole in (legacy(), path.read_bytes()):
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            with pytest.raises(FormatError, match=r"^x\.pth [a-z]") as caught:
                pytorch.read(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "said, data",
    [
        ("is empty", b""),
        ("is not a PyTorch file, or is damaged", b"hello, this is text"),
        ("is not a PyTorch file, or is damaged", bytes(range(256))),
        ("is not a PyTorch file, or is damaged", b"\x89HDF\r\n\x1a\n" + bytes(100)),
        ("is a damaged zip archive", b"PK\3\4" + bytes(100)),
        ("is a tar archive, as PyTorch before 0.2", b"pickle" + bytes(251) + b"ustar" + bytes(99)),
        ("holds a NoneType, not a dict", b"\x80\x02N."),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, said, data):
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(FormatError, match=rf"^x\.pth {said}"):
        pytorch.read(tmp_path / "x.pth")


def test_a_changed_byte_of_a_stored_entry_is_noticed(tmp_path):
    path = container(tmp_path / "x.pth", tensor_pickle(4, 0, (4,), (1,)), b"weights of 16 by")
    path.write_bytes(path.read_bytes().replace(b"weights of", b"weighty of", 1))
    with pytest.raises(FormatError, match="damaged entry data/0"):
        pytorch.read(path)


def test_a_file_with_random_changes_fails_clearly_or_is_read(tmp_path):
    chance = random.Random(0)
    path = container(tmp_path / "x.pth", tensor_pickle(4, 0, (2, 2), (2, 1)), bytes(16))
    for whole in (legacy(), path.read_bytes()):
        for _ in range(300):
            data = bytearray(whole)
            for _ in range(chance.choice((1, 1, 2, 8))):
                data[chance.randrange(len(data))] = chance.randrange(256)
            path.write_bytes(data)
            try:
                found = pytorch.read(path)
            except FormatError as error:
                assert str(error).startswith("x.pth ")
            else:
                assert all(isinstance(array, np.ndarray) for array in found.values())
