"""Pictures of graphs."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from flambeau import nn, nngraph


@pytest.fixture
def block():
    """A residual block with a second output."""
    x = nngraph.inputs("x")
    h = nn.ReLU()(nn.Linear(4, 6)(x, name="first"), name="relu")
    h = nn.Linear(6, 4)(h, name="second")
    return nngraph.Graph(x, [nn.Add()(h, x, name="sum & all"), h])


def drawn(text):
    """The boxes of a picture, {name: (left, top, right, bottom)}, in order."""
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    boxes = []
    for group in root.iter(f"{space}g"):
        rect = group.find(f"{space}rect")
        x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
        boxes.append((group.find(f"{space}text").text, (x, y, x + w, y + h)))
    return boxes


def test_every_layer_input_and_output_has_a_box_below_what_it_needs(block):
    boxes = drawn(block.svg())
    names = [name for name, _ in boxes]
    assert sorted(names) == sorted(
        ["x", "first", "relu", "second", "second", "sum & all", "sum & all"]
    )
    tops = {}
    for name, box in boxes:
        tops.setdefault(name, box[1])
    assert tops["x"] < tops["first"] < tops["relu"] < tops["second"] < tops["sum & all"]


def test_boxes_do_not_lie_upon_one_another(block):
    x = nngraph.inputs("x")
    wide = [nn.Linear(4, 4)(x, name=f"branch{i}") for i in range(7)]
    fan = nngraph.Graph(x, nn.Add()(*wide, x) + wide[3])
    for graph in (block, fan):
        boxes = [box for _, box in drawn(graph.svg())]
        for i, a in enumerate(boxes):
            for b in boxes[:i]:
                assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_shapes_are_drawn_when_an_input_is_given(block):
    block.train()
    text = block.svg(np.ones((2, 4), "f4"))
    assert text.count(">2 × 4<") == 3 and text.count(">2 × 6<") == 2
    assert block.training and all(module.training for module in block.modules())
    assert "×" not in block.svg()


def test_layers_that_learn_look_different(block):
    kinds = re.findall(r'<g class="(\w+)">.*?class="name"[^>]*>([^<]+)', block.svg())
    assert {name for kind, name in kinds if kind == "learned"} == {"first", "second"}


def test_draw_writes_a_file(block, tmp_path):
    block.draw(tmp_path / "block.svg")
    assert (tmp_path / "block.svg").read_text("utf-8") == block.svg()
    with pytest.raises(ValueError, match="must end in .svg — got 'block.png'"):
        block.draw("block.png")
