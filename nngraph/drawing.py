"""Graphs as pictures: layers as boxes from top to bottom, in SVG, without another library."""

from html import escape
from typing import NamedTuple

BOX, GAP = 40, 26  # height of a box and of the space between two rows
LETTER = 6.6  # width of a character, about
LONGEST = 38  # characters of a line
SWEEPS = 8  # passes down and up that bring boxes near to those they are wired to

STYLE = """
  .graph rect { fill: #fff; stroke: #94a3b8 }
  .graph .learned rect { fill: #fff1e0; stroke: #e08a2c }
  .graph .end rect { fill: #e8edf4 }
  .graph path { fill: none; stroke: #64748b; stroke-width: 1.3 }
  .graph text { font: 11px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
                fill: #64748b; text-anchor: middle }
  .graph .name { fill: #0f172a; font-weight: 600 }
  .graph .shape { text-anchor: start; font-size: 10px; paint-order: stroke;
                  stroke: #fff; stroke-width: 6px; stroke-linejoin: round }
""".strip("\n")


class Box(NamedTuple):
    """What is drawn at one place: an input, a layer, an output, or a bend of a long edge."""

    name: str
    text: str = ""
    kind: str = "bend"  # or "end", "box", "learned"

    @property
    def width(self):
        """In pixels; a bend takes the room of its line."""
        longest = max(len(self.name), len(self.text))
        return 12 if self.kind == "bend" else longest * LETTER + 24


def svg(graph, *inputs):
    """The picture of a graph as SVG text; with inputs the shape of every value is at its edge."""
    shapes = _shapes(graph, inputs) if inputs else {}
    boxes, edges = _boxes(graph)
    rows, edges = _rows(boxes, edges)
    x = _columns(rows, boxes, edges)
    left = min(x[v] - boxes[v].width / 2 for v in boxes) - 10
    right = max(x[v] + boxes[v].width / 2 for v in boxes) + 10
    right += max((len(s) for s in shapes.values()), default=0) * LETTER
    y = {v: 10 + r * (BOX + GAP) for r, row in enumerate(rows) for v in row}
    height = 20 + len(rows) * (BOX + GAP) - GAP
    parts = [_edge(x, y, boxes, a, b) for a, b in edges]
    parts += [_box(x[v], y[v], box) for v, box in boxes.items() if box.kind != "bend"]
    parts += [_shape(x[v], y[v], shapes[v]) for v in boxes if v in shapes]
    head = f'<svg class="graph" xmlns="http://www.w3.org/2000/svg" width="{right - left:.0f}"'
    view = f'height="{height}" viewBox="{left:.1f} 0 {right - left:.1f} {height}">'
    return "\n".join([f"{head} {view}", "<style>", STYLE, "</style>", *parts, "</svg>", ""])


def _boxes(graph):
    """{vertex: Box} and the edges (from, to); a vertex is a slot, an output's ("y", number)."""
    boxes, edges = {}, []
    for slot, step in enumerate(graph.steps):
        module = graph.named.get(step.name)
        if module is None:
            boxes[slot] = Box(step.name, "input", "end")
            continue
        text = repr(module) if not module.children() else type(module).__name__
        text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
        boxes[slot] = Box(step.name, text, "learned" if module.parameters() else "box")
        edges += dict.fromkeys((parent, slot) for parent, _ in step.inputs)
    for number, (slot, path) in enumerate(graph.outs):
        part = "".join(f"[{i}]" for i in path)
        boxes["y", number] = Box(graph.steps[slot].name + part, "output", "end")
        edges.append((slot, ("y", number)))
    return boxes, edges


def _rows(boxes, edges):
    """The vertices row by row, each below all that it needs; long edges get a bend in each row.

    Bends are added to boxes. Source: Sugiyama, Tagawa and Toda, 1981.
    """
    depth = dict.fromkeys(boxes, 0)
    for a, b in edges:  # slots are in topological order, and so are their edges
        depth[b] = max(depth[b], depth[a] + 1)
    rows = [[] for _ in range(max(depth.values()) + 1)]
    for vertex in boxes:
        rows[depth[vertex]].append(vertex)
    short = []
    for a, b in edges:
        last = a
        for row in range(depth[a] + 1, depth[b]):
            bend = "bend", a, b, row
            boxes[bend] = Box("")
            rows[row].append(bend)
            short.append((last, bend))
            last = bend
        short.append((last, b))
    return rows, short


def _columns(rows, boxes, edges):
    """{vertex: x of its middle}: near to those that it is wired to, and none upon another."""
    above, below = ({v: [] for v in boxes} for _ in range(2))
    for a, b in edges:
        above[b].append(a)
        below[a].append(b)
    x = dict.fromkeys(boxes, 0.0)
    for row in rows:
        _place(row, boxes, x, x)
    for sweep in range(SWEEPS):
        near, order = (below, rows[::-1]) if sweep % 2 else (above, rows)
        for row in order:
            wanted = {
                v: sum(x[u] for u in near[v]) / len(near[v]) if near[v] else x[v] for v in row
            }
            row.sort(key=wanted.get)
            _place(row, boxes, wanted, x)
    return x


def _place(row, boxes, wanted, x):
    """Give the vertices of a row, in their order, places near to those wanted, and room."""
    right, left = {}, {}
    edge = -float("inf")
    for v in row:
        right[v] = max(wanted[v], edge + boxes[v].width / 2)
        edge = right[v] + boxes[v].width / 2 + 18
    edge = float("inf")
    for v in reversed(row):
        left[v] = min(wanted[v], edge - boxes[v].width / 2)
        edge = left[v] - boxes[v].width / 2 - 18
    for v in row:  # both keep the distances, and so does their mean
        x[v] = (left[v] + right[v]) / 2


def _edge(x, y, boxes, a, b):
    """A line down from a to b; through a bend it goes straight."""
    top, bottom = y[a] + BOX, y[b]
    bend = (top + bottom) / 2
    start = f"M{x[a]:.1f} {y[a]}V{top}" if boxes[a].kind == "bend" else f"M{x[a]:.1f} {top}"
    return f'<path d="{start}C{x[a]:.1f} {bend} {x[b]:.1f} {bend} {x[b]:.1f} {bottom}"/>'


def _box(x, y, box):
    radius = 20 if box.kind == "end" else 5
    return (
        f'<g class="{box.kind}"><rect x="{x - box.width / 2:.1f}" y="{y}" '
        f'width="{box.width:.1f}" height="{BOX}" rx="{radius}"/>'
        f'<text class="name" x="{x:.1f}" y="{y + 17}">{escape(box.name)}</text>'
        f'<text x="{x:.1f}" y="{y + 31}">{escape(box.text)}</text></g>'
    )


def _shape(x, y, text):
    return f'<text class="shape" x="{x + 6:.1f}" y="{y + BOX + 16}">{escape(text)}</text>'


def _shapes(graph, inputs):
    """{slot: shape of its value}, of one pass in evaluation."""
    modes = [(module, module.training) for module in graph.modules()]
    names = [step.name for step in graph.steps]
    try:
        _, values = graph.eval()(*inputs, taps=names)
    finally:
        for module, mode in modes:
            module.training = mode
    return {slot: _text(values[name]) for slot, name in enumerate(names)}


def _text(value):
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_text, value)) + ")"
    return " × ".join(map(str, value.shape))
