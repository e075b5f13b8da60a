"""Devices, data and marks."""

import importlib.util
import os
from pathlib import Path

import pytest

from flambeau import kernels

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FLAMBEAU_DATA", ROOT.parent / "shared" / "data"))


def has_gpu():
    """True when pycuda and a GPU are there."""
    if importlib.util.find_spec("pycuda") is None:
        return False
    try:
        import pycuda.driver as driver

        driver.init()
        return driver.Device.count() > 0
    except Exception:  # no driver, no library: no GPU
        return False


NEEDS = {
    "torch": (lambda: importlib.util.find_spec("torch") is not None, "PyTorch is not installed"),
    "data": (DATA.is_dir, f"no data in {DATA}"),
    "cuda": (has_gpu, "no GPU"),
}


def pytest_collection_modifyitems(items):
    """Skip, by mark, what this machine cannot run."""
    present = {}
    for item in items:
        for mark, (there, why) in NEEDS.items():
            if item.get_closest_marker(mark):
                if mark not in present:
                    present[mark] = there()
                if not present[mark]:
                    item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture
def data():
    """The folder of real weights and images."""
    return DATA


DEVICES = ["reference", "cpu", "host", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.fixture(params=DEVICES)
def device(request):
    """The name of a device; NumPy arrays are computed by the package of that name meanwhile."""
    if request.param in ("reference", "cpu"):
        with kernels.use(request.param):
            yield request.param
    else:
        with kernels.use("reference"):
            yield request.param
