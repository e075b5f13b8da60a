"""A network wired from nodes."""

from flambeau import nn
from flambeau.nn import saving
from flambeau.nn.container import overlapping, spent, taken
from flambeau.nn.module import Arguments
from flambeau.nngraph.gradients import assembled, beside
from flambeau.nngraph.joining import joints
from flambeau.nngraph.wiring import Step, names, nodes, part, reachable


class Graph(nn.Module):
    """A module wired from nodes: every value is computed once, fan-out gradients are summed.

    x, or a tuple with one value for each input -> y, or a tuple of the outputs.

    inputs, outputs: a Node or a list of them
    aliases: further names for values, {"pool5": node}; the children's names are the nodes' own,
    or made from the type: relu_1, relu_2
    Raises ValueError for an input that reaches no output, a node that hangs on no input given,
    and a name used twice.

    >>> x = nngraph.inputs("x")
    >>> h = nn.Linear(3, 4)(x, name="hidden")
    >>> net = Graph(x, nn.ReLU()(h) + h)
    >>> y, inner = net(np.ones((2, 3), "f4"), taps=["hidden"])
    >>> y.shape, inner["hidden"].shape
    ((2, 4), (2, 4))

    Source: Torch7's nn.gModule.
    """

    def __init__(self, inputs, outputs, aliases=None):
        self.arguments = Arguments((), {})
        inputs, outputs = nodes("input", inputs), nodes("output", outputs)
        vertices = reachable(inputs, outputs)
        slots = {id(v): i for i, v in enumerate(vertices)}
        labels = names(vertices)
        self.steps = tuple(
            Step(name, tuple((slots[id(p.vertex)], p.path) for p in v.parents), v.where)
            for name, v in zip(labels, vertices, strict=True)
        )
        self.named = {n: v.module for n, v in zip(labels, vertices, strict=True) if v.module}
        self.ins = tuple(slots[id(node)] for node in inputs)
        self.outs = tuple((slots[id(node.vertex)], node.path) for node in outputs)
        self.aliases = {}
        for name, node in (aliases or {}).items():
            if id(node.vertex) not in slots:
                raise ValueError(f"Graph: the alias {name!r} ({node.where}) reaches no output")
            self.aliases[name] = slots[id(node.vertex)], node.path

    # ---- running

    def forward(self, x, taps=()):
        """y; with taps=["name", …] the pair (y, {name: inner value})."""
        self.saved = None
        watched = {name: self.value(name) for name in taps}
        found = self._values(x, self.training, {slot for slot, _ in watched.values()})
        values = found[0]
        if self.training:
            self.saved = x, *found
        ys = tuple(part(values[slot], path) for slot, path in self.outs)
        y = ys if len(ys) > 1 else ys[0]
        if not taps:
            return y
        return y, {name: part(values[slot], path) for name, (slot, path) in watched.items()}

    def _values(self, x, keep, watched=frozenset()):
        """The value of each step, what the steps saved whose modules occur twice, which steps had
        values replaced, and which were computed with those before."""
        values, states = self._start(x), {}
        last = self._replaced() if keep else self._last_uses()
        given = set() if self.enclosed else {slot for slot, _ in self.outs}
        shared = overlapping(self.named) if keep else frozenset()
        joined = joints(self, shared, given | watched) if keep else {}
        inside = {slot for joint in joined.values() for slot in joint.inside}
        shortened = {joint.shortened(self) for joint in joined.values()}
        for slot, step in enumerate(self.steps):
            module = self.named.get(step.name)
            if module is None or slot in inside:
                continue
            try:
                module.enclosed = keep and slot not in given
                if slot in joined:
                    values[slot] = joined[slot].forward(self, values)
                elif slot in shortened:
                    values[slot] = module.forward_until_last(self._input(values, step))
                else:
                    values[slot] = module.forward(self._input(values, step))
            except Exception as error:
                self._at(error, joined[slot].layer if slot in joined else step.name)
                raise
            finally:
                module.enclosed = False
            if step.name in shared:
                states[slot] = module.take_saved()
            done = (slot, *joined[slot].inside) if slot in joined else (slot,)
            for used in [used for s in done for used in last.get(s, ())]:
                if used not in watched and used not in joined and used not in shortened:
                    values[used] = None
        return values, states, last, joined

    def _start(self, x):
        values = [None] * len(self.steps)
        given = x if len(self.ins) > 1 else (x,)
        if not isinstance(given, tuple) or len(given) != len(self.ins):
            names = ", ".join(self.steps[slot].name for slot in self.ins)
            count = len(given) if isinstance(given, tuple) else 1
            raise ValueError(f"Graph({names}): needs {len(self.ins)} inputs — got {count}")
        for slot, value in zip(self.ins, given, strict=True):
            values[slot] = value
        return values

    def _input(self, values, step):
        xs = tuple(part(values[slot], path) for slot, path in step.inputs)
        return xs if len(xs) > 1 else xs[0]

    def _last_uses(self):
        """{slot: the slots whose value nobody needs after it}, for evaluation."""
        if "_uses" not in vars(self):
            last, kept = {}, {slot for slot, _ in self.outs}
            for slot, step in enumerate(self.steps):
                last.update({used: slot for used, _ in step.inputs})
            self._uses = {}
            for used, slot in last.items():
                if used not in kept:
                    self._uses.setdefault(slot, []).append(used)
        return self._uses

    def _replaced(self):
        """{slot: the slots whose values only it uses and does without in backward}, for training.

        What comes into a ReLU, whose own value serves instead, and into a sum. The outputs of the
        graph are the caller's, who may change them, unless this graph is itself inside another.
        """
        cached = vars(self).setdefault("_replaceable", {})
        if self.enclosed not in cached:
            users = [[] for _ in self.steps]
            for slot, step in enumerate(self.steps):
                for used, _ in step.inputs:
                    users[used].append(slot)
            outs = {slot for slot, _ in self.outs}
            needed, found = outs | set(self.ins), {}
            for slot, step in enumerate(self.steps):
                module = self.named.get(step.name)
                serves = module and module.from_output and (self.enclosed or slot not in outs)
                if serves or (module and module.from_shape and len(step.inputs) > 1):
                    spare = [used for used, path in step.inputs if not path]
                    spare = [u for u in spare if users[u] == [slot] and u not in needed]
                    found |= {slot: spare} if spare else {}
                    needed |= {slot} if spare and serves else set()
            cached[self.enclosed] = found
        return cached[self.enclosed]

    def backward(self, x, dy):
        # in evaluation nothing was kept: the values are computed again
        *kept, joined = taken(self)[1:] if self.saved else self._values(x, True)
        values = kept[0]
        arrived = [[] for _ in self.steps]  # (path, gradient) from each consumer
        dys = dy if len(self.outs) > 1 else (dy,)
        for (slot, path), gradient in zip(self.outs, dys, strict=True):
            arrived[slot].append((path, gradient))
        wanted = self._wanted()
        for slot in range(len(self.steps) - 1, -1, -1):
            step = self.steps[slot]
            if slot in self.ins or not wanted[slot] or not arrived[slot]:
                continue
            if slot in joined:
                found = self._joint_back(slot, values, joined[slot], arrived[slot], wanted)
            else:
                dxs = self._step_back(slot, *kept, arrived, wanted)
                found = zip(step.inputs, dxs, strict=True)
            arrived[slot] = []
            if self.backward_once:
                values[slot] = None  # what used it has had its turn
                if slot in joined:
                    spent(self.named[joined[slot].layer])
            for (parent, path), dx in found:
                if dx is not None:
                    arrived[parent].append((path, dx))
        if not self.want_dx:
            return None
        dx = tuple(assembled(values[slot], arrived[slot]) for slot in self.ins)
        return dx if len(dx) > 1 else dx[0]

    def _wanted(self):
        """For each step: is the gradient of its value of use to anybody?"""
        wanted = []
        for slot, step in enumerate(self.steps):
            if slot in self.ins:
                wanted.append(self.want_dx)
            else:
                below = any(wanted[parent] for parent, _ in step.inputs)
                wanted.append(below or self.named[step.name].learns())
        return wanted

    def _joint_back(self, slot, values, joint, arrived, wanted):
        """(slot, path) and gradient of each value that a joint used."""
        dy = assembled(values[slot], arrived)
        try:
            return joint.backward(self, values, values[slot], dy, wanted)
        except Exception as error:
            self._at(error, joint.layer)
            raise

    def _step_back(self, slot, values, states, replaced, arrived, wanted):
        """The gradients of one step's inputs."""
        step = self.steps[slot]
        module = self.named[step.name]
        module.want_dx = any(wanted[parent] for parent, _ in step.inputs)
        module.backward_once = self.backward_once
        if slot in states:
            module.put_saved(states[slot])
        dy = assembled(values[slot], arrived[slot])
        if slot in replaced:
            x = (dy,) * len(step.inputs) if module.from_shape else values[slot]
        else:
            x = self._input(values, step)
        before = beside(step, module, x, arrived, wanted)
        try:
            if before is None:
                dx = module.backward(x, dy)
            else:
                dx = module.backward_sum(x, dy, before.pop()[1])
        except Exception as error:
            self._at(error, step.name)
            raise
        finally:
            module.backward_once = False  # it is the graph's wish, not the module's own
        if self.backward_once:
            spent(module)
        if dx is None:
            return (None,) * len(step.inputs)
        return dx if len(step.inputs) > 1 else (dx,)

    def _at(self, error, name):
        """Note on an error which step it passed."""
        where = next(step.where for step in self.steps if step.name == name)
        error.add_note(f"in {name} of Graph, wired at {where}")

    # ---- looking and cutting

    def value(self, name):
        """Where the value of that name is: (slot, path)."""
        if name in self.aliases:
            return self.aliases[name]
        for slot, step in enumerate(self.steps):
            if step.name == name:
                return slot, ()
        raise KeyError(f"no value {name!r} in Graph; the names are {', '.join(self.values())}")

    def values(self):
        """The names of all values: steps and aliases."""
        return list(dict.fromkeys([*(step.name for step in self.steps), *self.aliases]))

    def until(self, name):
        """The graph that computes the inner value of that name, sharing modules with this one.

        A dotted name goes inside a child: "layer4.0.relu".
        """
        outer, _, inner = name.partition(".")
        if name in self.values() or not inner:
            return self.part([self.value(name)])
        if outer not in self.named:
            raise KeyError(f"no value {outer!r} in Graph; the names are {', '.join(self.values())}")
        graph = self.part([self.value(outer)])
        graph.named[outer] = graph.named[outer].until(inner)
        return graph

    def part(self, outs):
        """The graph that computes the values at (slot, path), sharing modules with this one."""
        used = set()
        todo = [slot for slot, _ in outs]
        while todo:
            slot = todo.pop()
            if slot not in used:
                used.add(slot)
                todo += [parent for parent, _ in self.steps[slot].inputs]
        order = sorted(used)
        new = {slot: i for i, slot in enumerate(order)}
        graph = Graph.__new__(Graph)
        graph.training = self.training
        graph.steps = tuple(
            self.steps[s]._replace(inputs=tuple((new[p], path) for p, path in self.steps[s].inputs))
            for s in order
        )
        names = [step.name for step in graph.steps]
        graph.named = {name: self.named[name] for name in names if name in self.named}
        graph.ins = tuple(new[slot] for slot in self.ins if slot in used)
        graph.outs = tuple((new[slot], path) for slot, path in outs)
        graph.aliases = {n: (new[s], path) for n, (s, path) in self.aliases.items() if s in used}
        return graph

    @property
    def dag(self):
        """The graph as a networkx.DiGraph: nodes are names, with the attribute `module`."""
        import networkx

        dag = networkx.DiGraph()
        for step in self.steps:
            dag.add_node(step.name, module=self.named.get(step.name), where=step.where)
            dag.add_edges_from((self.steps[parent].name, step.name) for parent, _ in step.inputs)
        return dag

    def svg(self, *inputs):
        """The picture of the graph as SVG text; with inputs every value's shape is at its edge."""
        from flambeau.nngraph import drawing

        return drawing.svg(self, *inputs)

    def draw(self, path, *inputs):
        """Write the picture of the graph, see svg(), to a file: its name must end in .svg."""
        if not str(path).endswith(".svg"):
            raise ValueError(f"Graph.draw: path must end in .svg — got {str(path)!r}")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.svg(*inputs))

    # ---- what every module has

    def children(self):
        return list(self.named.items())

    def set_child(self, name, module):
        self.named[name] = module
        vars(self).pop("_replaceable", None)

    def __getitem__(self, name):
        if name not in self.named:
            raise KeyError(f"no {name!r} in Graph; the names are {', '.join(self.named)}")
        return self.named[name]

    def __len__(self):
        return len(self.named)

    def __repr__(self):
        ins = ", ".join(self.steps[slot].name for slot in self.ins)
        outs = ", ".join(self._show(*out) for out in self.outs)
        lines = [f"Graph({ins} -> {outs}"]
        for step in self.steps:
            if step.name in self.named:
                sources = ", ".join(self._show(*source) for source in step.inputs)
                module = repr(self.named[step.name]).replace("\n", "\n  ")
                lines.append(f"  ({step.name}) {module} of {sources}")
        return "\n".join(lines) + "\n)"

    def _show(self, slot, path):
        return self.steps[slot].name + "".join(f"[{i}]" for i in path)

    def config(self):
        names = list(self.named)
        modules = list(self.named.values())
        firsts = [next(n for n, o in zip(names, modules, strict=True) if o is m) for m in modules]
        return saving.header(self) | {
            "steps": [[s.name, s.inputs, s.where] for s in self.steps],
            "ins": self.ins,
            "outs": self.outs,
            "aliases": self.aliases,
            "children": [
                [name, first if first != name else self.named[name].config()]
                for name, first in zip(names, firsts, strict=True)
            ],
        }

    @classmethod
    def from_config(cls, config):
        graph = cls.__new__(cls)
        graph.training, graph.frozen = config["training"], config["frozen"]
        graph.steps = tuple(Step(n, _places(ins), w) for n, ins, w in config["steps"])
        graph.ins, graph.outs = tuple(config["ins"]), _places(config["outs"])
        graph.aliases = {name: _places([place])[0] for name, place in config["aliases"].items()}
        graph.named = {}
        for name, child in config["children"]:
            shared = isinstance(child, str)
            graph.named[name] = graph.named[child] if shared else saving.decode(child)
        return graph


def _places(pairs):
    return tuple((slot, tuple(path)) for slot, path in pairs)
