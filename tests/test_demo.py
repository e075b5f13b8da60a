"""The demo without its trained networks."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from flambeau import nn, nngraph, zoo

EXAMPLES = Path(__file__).resolve().parents[1] / "docs" / "examples"


@pytest.fixture
def demo(monkeypatch):
    """The demo's modules."""
    monkeypatch.syspath_prepend(EXAMPLES)
    import demo
    import report

    monkeypatch.setattr(demo, "EPOCHS", 2)
    yield demo
    for module in (demo, report):
        del sys.modules[module.__name__]


def test_the_demo_learns_digits_and_writes_a_page_of_its_own(demo, capsys):
    nn.seed(0)
    blocks = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(4)))
    network = nn.Sequential(("_blocks", blocks))
    network.preprocessing = zoo.Preprocessing(224, resize=256, mean=127.0, std=128.0)
    digits = demo.learn_digits(network)
    assert len(digits["tested"]) == demo.HELD_OUT
    assert digits["curves"]["raw pixels"][-1] > 0.9  # what a linear classifier is known to reach
    assert "1797 digits: 3 x 2 x 2 values" in capsys.readouterr().out

    x = nngraph.inputs("x")
    drawing = nngraph.Graph(x, nn.ReLU()(x)).svg()
    names = [(path, [("a <b>", 0.75), ("c", 0.25)]) for path in demo.PHOTOS]
    page = demo.report.page(names, (["a", "b", "c"], np.eye(3)), digits, [("A graph", drawing)])
    assert "a &lt;b&gt;" in page and "<b>a <b>" not in page
    assert page.count("data:image/jpeg;base64,") == 3 and page.count("<polyline") == 2
    outside = re.findall(r"""(?:src|href)=["'](?!data:)[^"']*|url\(""", page)
    assert not outside
