"""The examples in docstrings and in docs/ are run and give what they show."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import flambeau
from flambeau import kernels, nn, nngraph, zoo

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"np": np, "nn": nn, "nngraph": nngraph, "kernels": kernels, "zoo": zoo}


def modules():
    """Every module of the package."""
    names = ["flambeau"]
    for package in ("kernels", "nn", "nngraph", "zoo"):
        names.append(f"flambeau.{package}")
        path = [str(ROOT / package)]
        names += [m.name for m in pkgutil.walk_packages(path, f"flambeau.{package}.")]
    unwanted = ("_native", ".build", "__main__", "_pb2")
    return [name for name in names if not name.endswith(unwanted)]


@pytest.mark.parametrize("name", modules())
def test_examples_in_docstrings_are_true(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    nn.seed(0)
    result = doctest.testmod(module, globs=NAMES | vars(module), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0


def test_every_public_name_has_a_docstring():
    for package in (nn, nn.optim, nngraph, zoo, kernels.reference):
        for name in package.__all__:
            thing = getattr(package, name)
            if not isinstance(thing, str):
                assert (thing.__doc__ or "").strip(), f"{package.__name__}.{name}"


PAGES = sorted([*ROOT.glob("docs/*.md"), ROOT / "README.md"])


@pytest.mark.data
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_in_pages_are_true(page, tmp_path, monkeypatch, data):
    """The ```python blocks of a page run one after another in a folder of their own.

    Blocks with >>> are checked as doctests; `photos/` is the folder of docs/examples.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").symlink_to(ROOT / "docs/examples/photos")
    (tmp_path / "digits").symlink_to(ROOT / "docs/examples/digits")
    (tmp_path / "data").symlink_to(data)
    names = {"__name__": "__main__"}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
    ):
        if ">>>" in block:
            test = doctest.DocTestParser().get_doctest(block, names, page.name, page.name, number)
            runner.run(test, clear_globs=False)
            names |= test.globs
        else:
            exec(compile(block, f"{page.name}[{number}]", "exec"), names)
    assert runner.failures == 0


def test_the_version_is_one():
    assert re.fullmatch(r"\d+\.\d+\.\d+", flambeau.__version__)
    assert f"## {flambeau.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
