"""What must hold of the three packages of kernels."""

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest

from flambeau import kernels

PACKAGES = {name: kernels.package(name) for name in ("reference", "cpu", "cuda")}


def signature(function):
    return [p.name for p in inspect.signature(function).parameters.values()]


def test_the_packages_offer_the_same_functions_with_the_same_signatures():
    names = {name: set(package.__all__) for name, package in PACKAGES.items()}
    only_cuda = {"device_of", "is_on", "to_device", "wrap"}
    assert names["reference"] == names["cpu"] == names["cuda"] - only_cuda
    for name in sorted(names["reference"]):
        functions = {key: getattr(package, name) for key, package in PACKAGES.items()}
        expected = signature(functions["reference"])
        for key, function in functions.items():
            assert signature(function) == expected, f"{key}.{name}"
            parameters = inspect.signature(function).parameters.values()
            assert all(p.default is p.empty for p in parameters), f"{key}.{name} has a default"


def test_the_array_decides():
    x = np.ones(3, "f4")
    host = kernels.to(x, "host")
    assert kernels.of(host) is PACKAGES["cuda"]
    assert kernels.device(host) == "host" and kernels.device(x) == "cpu"
    assert (kernels.to(host, "cpu") == x).all()
    assert kernels.to(host, "host") is host and kernels.to(x, "cpu") is x
    with kernels.use("reference"):
        assert kernels.of(x) is PACKAGES["reference"]
    with pytest.raises(
        ValueError, match="a device is cpu, host, cuda or cuda:<number> — got 'tpu'"
    ):
        kernels.to(x, "tpu")
    with pytest.raises(TypeError, match="must be an ndarray or a GPUArray — got list"):
        kernels.of([1.0])


@pytest.mark.cuda
def test_an_array_that_is_on_the_gpu_in_use_stays_where_it_is():
    x = kernels.to(np.ones(3, "f4"), "cuda")
    assert kernels.to(x, "cuda") is x and kernels.to(x, kernels.device(x)) is x


@pytest.mark.parametrize("name", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
@pytest.mark.parametrize("value", [0, 3])
def test_fill_writes_the_array_and_nothing_beside_it(name, dtype, value):
    for length in 1, 5, 600_001:
        memory = np.full((length + 2, 2), 7, dtype)
        flat = memory.reshape(-1)
        for part in flat[1:-1], memory[1:-1], memory[1:-1, 1]:
            memory[...] = 7
            expected = memory.copy()
            start = part.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
            step = part.strides[-1] // memory.itemsize
            at = start // memory.itemsize + step * np.arange(part.size)
            expected.reshape(-1)[at] = value
            PACKAGES[name].fill(part, value)
            np.testing.assert_array_equal(memory, expected)


def python(code, **environment):
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_without_the_extension_the_reference_serves_with_one_warning():
    code = """
import sys, warnings
sys.modules["flambeau.kernels.cpu._native"] = None
import numpy as np
from flambeau import kernels, nn
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    nn.ReLU()(np.ones(3)); nn.ReLU()(np.ones(3))
print(len(caught), kernels.of(np.ones(1)).__name__, caught[0].message)
"""
    done = python(code)
    assert done.stdout.startswith("1 flambeau.kernels.reference the C kernels were not built"), (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize("isa", kernels.package("cpu").native.supported())
def test_every_instruction_set_gives_the_numbers_of_the_reference(isa):
    code = """
import numpy as np
from flambeau import kernels, nn
from flambeau.kernels.cpu import native
x = np.random.default_rng(0).normal(size=(2, 6, 13, 17)).astype("f4")
net = nn.Sequential(nn.Conv2d(6, 9, 3, 2, 1), nn.BatchNorm2d(9), nn.ReLU(), nn.MaxPool2d(2),
                    nn.Conv2d(9, 18, 1, groups=3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
with kernels.use("reference"):
    expected = net.clone()(x)
with kernels.use("cpu"):
    got = net(x)
print(native.isa, float(abs(got - expected).max() / abs(expected).max()) < 1e-5)
"""
    done = python(code, FLAMBEAU_ISA=isa)
    assert done.stdout == f"{isa} True\n", done.stdout + done.stderr


def test_the_instruction_set_that_a_processor_lacks_is_named():
    done = python("from flambeau.kernels import cpu", FLAMBEAU_ISA="neon512")
    assert "FLAMBEAU_ISA=neon512: this processor offers" in done.stderr


def test_importing_flambeau_loads_numpy_and_the_standard_library_only():
    code = """
import sys
import flambeau
loaded = {name.split(".")[0] for name in sys.modules}
heavy = "networkx h5py google safetensors PIL matplotlib tqdm pycuda torch".split()
print(sorted(loaded.intersection(heavy)))
"""
    done = python(code)
    assert done.stdout == "[]\n", done.stdout + done.stderr
