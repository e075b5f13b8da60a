"""Training a classifier of one's own on top of a trained network."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flambeau import nn, nngraph, zoo


class Folders:
    """Images in one folder a class, split into training and held-out ones.

    folder: has at least two folders of images; their names are the labels.
    preprocessing: what reads the images.
    validation: the share of each class that is held out, at least one image.
    Files that are no image are in `skipped`, as (path, error). Raises ValueError when there are
    fewer than two classes, or a class has fewer than two images.
    """

    def __init__(self, folder, preprocessing, validation=0.2, seed=0):
        if not 0 < validation < 1:
            raise ValueError(f"finetune: validation must lie between 0 and 1 — got {validation}")
        places = [p for p in sorted(Path(folder).iterdir()) if p.is_dir() and p.name[0] != "."]
        self.labels = [place.name for place in places]
        if len(places) < 2:
            raise ValueError(
                f"finetune: {folder} must hold one folder of images a class, at least two — "
                f"got {', '.join(self.labels) or 'none'}"
            )
        self.skipped, self.training, self.held_out = [], [], []
        generator = np.random.default_rng(seed)
        for number, place in enumerate(places):
            images = self._images(place, preprocessing)
            if len(images) < 2:
                raise ValueError(
                    f"finetune: the class {place.name} must have at least two images — "
                    f"got {len(images)}"
                )
            generator.shuffle(images)
            held = min(max(1, round(validation * len(images))), len(images) - 1)
            self.held_out += [(path, number) for path in images[:held]]
            self.training += [(path, number) for path in images[held:]]

    def _images(self, place, preprocessing):
        images = []
        for path in sorted(p for p in place.rglob("*") if p.is_file() and p.name[0] != "."):
            try:
                preprocessing.crop(path)  # whole: damage may be anywhere
                images.append(path)
            except (ValueError, OSError) as error:
                self.skipped.append((str(path), error))
        return images

    def __repr__(self):
        return (
            f"{len(self.labels)} classes, {len(self.training)} images to train on, "
            f"{len(self.held_out)} held out"
        )


@dataclass
class Epoch:
    """What one pass over the training images gave."""

    number: int
    loss: float
    accuracy: float  # of the held-out images
    best: bool

    def __str__(self):
        mark = "  saved" if self.best else ""
        return f"epoch {self.number}: loss {self.loss:.4f}, held out {self.accuracy:.1%}{mark}"


def finetune(
    network,
    data,
    output,
    freeze_until=None,
    epochs=10,
    lr=None,
    batch=16,
    flip=False,
    seed=0,
):
    """Give a network a new classifier for the labels of `data` and train it: an Epoch at a time.

    network: with `preprocessing`; it is changed in place.
    data: has labels, and (image, number of the class) pairs in `training` and `held_out`.
    freeze_until: the last child that stays as it is; None: all but the classifier, "": nothing.
    flip: mirror images at random.

    The network of the best epoch so far is in the file `output`, whole at any time. What is
    frozen in front sees each image only once, unless they are flipped: its values are kept.
    Adam at the learning rate `lr`, which falls to 0 as a cosine; None: 0.01 for the classifier
    alone, 0.0003 where more learns, which must not forget what it knows.
    """
    lr = lr or (1e-2 if freeze_until is None else 3e-4)
    new_classifier(network, len(data.labels))
    network.labels = list(data.labels)
    freeze(network, freeze_until)
    trunk, head = split(network)
    head.want_dx = False  # nobody asks for the gradient of what is in front
    keep = len(trunk) > 0
    held_out = Inputs(network, trunk, data.held_out, batch, keep)
    training = Inputs(network, trunk, data.training, batch, keep and not flip)
    optimizer = nn.optim.Adam(head, lr=lr)
    schedule = nn.optim.CosineLR(optimizer, -(-len(training) // batch) * epochs)
    generator = np.random.default_rng(seed)
    best = -1.0
    for number in range(1, epochs + 1):
        loss = _pass(head, training, batch, optimizer, schedule, generator, flip)
        score = accuracy(head, held_out, batch)
        better = score > best
        if better:
            best = score
            zoo.save(network, output)
        yield Epoch(number, loss, score, better)


def new_classifier(network, classes):
    """Replace the last layer with weights by a fresh one with so many outputs.

    A softmax behind it is left off: the loss works on scores. Raises ValueError where the last
    layer with weights is neither Linear nor Conv2d.
    """
    named = [(name, module) for name, module in network.named_modules() if _learned(module)]
    if not named:
        raise ValueError("finetune: the network has no layer with weights")
    name, last = named[-1]
    bias = getattr(last, "bias", None) is not None
    if isinstance(last, nn.Linear):
        fresh = nn.Linear(last.in_features, classes, bias=bias)
    elif isinstance(last, nn.Conv2d):
        window = last.kernel_size, last.stride, last.padding, last.dilation
        fresh = nn.Conv2d(last.in_channels, classes, *window, bias=bias)
    else:
        raise ValueError(
            f"finetune: the last layer with weights must be Linear or Conv2d — got {name} {last!r}"
        )
    _put(network, name, fresh)
    for path, module in network.named_modules():
        if isinstance(module, nn.Softmax | nn.LogSoftmax):
            _put(network, path, nn.Identity())


def freeze(network, until):
    """Freeze up to a child; None: everything but the last layer with weights, "": nothing."""
    network.unfreeze()
    if until:
        network.freeze(until=until)
    elif until is None:
        last = [module for module in network.modules() if _learned(module)][-1]
        network.freeze()
        last.unfreeze()
    if not network.learns():
        raise ValueError(f"finetune: with everything frozen up to {until} nothing learns")


def split(network):
    """(trunk, head), two Sequentials: what is frozen in front, and from where something learns on.

    A graph is split where a chain of layers leads from there to its output; else all is head.
    """
    trunk, head = _halves(network)
    # whatever comes out, such as (n, k, 1, 1), becomes one score a class
    return nn.Sequential(*trunk).eval(), nn.Sequential(*head, nn.Flatten())


def _halves(network):
    if isinstance(network, nn.Sequential):
        modules = list(network)
        first = [module.learns() for module in modules].index(True)
        trunk, head = _halves(modules[first])
        return modules[:first] + trunk, head + modules[first + 1 :]
    if isinstance(network, nngraph.Graph) and len(network.outs) == 1:
        chain = _chain(network)
        modules = [network[network.steps[slot].name] for slot in chain]
        learning = [module.learns() for module in modules]
        before = [m for name, m in network.children() if m not in modules]
        if any(learning) and not any(module.learns() for module in before):
            first = learning.index(True)
            source = network.steps[chain[first]].inputs[0]
            if source[0] not in network.ins:
                return [network.part([source])], modules[first:]
    return [], [network]


def _chain(graph):
    """The last slots of a graph that lead, each from the one before it, to its output."""
    chain = []
    slot, path = graph.outs[0]
    while slot not in graph.ins and len(graph.steps[slot].inputs) == 1 and not path:
        chain.insert(0, slot)
        slot, path = graph.steps[slot].inputs[0]
    return chain


class Inputs:
    """What the head sees of images: the values of the trunk, kept in a temporary file or made anew.

    rows: (image, number of the class) pairs
    """

    def __init__(self, network, trunk, rows, batch, keep):
        self.preprocessing, self.trunk = network.preprocessing, trunk
        self.images = [image for image, _ in rows]
        self.targets = np.array([number for _, number in rows])
        self.kept = self._keep(batch) if keep else None

    def __len__(self):
        return len(self.images)

    def take(self, chosen, mirrored=()):
        """The values for some images by their numbers; mirrored: truth values, those to flip."""
        if self.kept is not None:
            return np.asarray(self.kept[chosen])
        x = self.preprocessing([self.images[i] for i in chosen])
        for i in np.flatnonzero(mirrored):
            x[i] = x[i, :, :, ::-1].copy()
        return self.trunk(x)

    def _keep(self, batch):
        self.kept = kept = None  # until all are there, take() makes them
        bar = _bar(len(self), "looking at images")
        for start in range(0, len(self), batch):
            chosen = np.arange(start, min(start + batch, len(self)))
            y = self.take(chosen)
            if kept is None:
                shape = len(self), *y.shape[1:]
                with tempfile.TemporaryFile() as file:
                    kept = np.memmap(file, np.float32, "w+", shape=shape)
            kept[start : start + len(y)] = y
            bar.update(len(y))
        bar.close()
        return kept


def _pass(head, inputs, batch, optimizer, schedule, generator, flip):
    """One pass over the images in random order; the mean loss."""
    head.train()
    head.backward_once = True
    criterion, total = nn.CrossEntropyLoss(), 0.0
    order = generator.permutation(len(inputs))
    bar = _bar(len(order), "training")
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        x = inputs.take(chosen, generator.random(len(chosen)) < 0.5 if flip else ())
        target = inputs.targets[chosen]
        y = head(x)
        total += criterion.forward(y, target) * len(x)
        optimizer.zero_grad()
        head.backward(x, criterion.backward(y, target))
        optimizer.step()
        schedule.step()
        bar.update(len(x))
    bar.close()
    head.backward_once = False
    return total / len(order)


def accuracy(head, inputs, batch=16):
    """The share of images whose class gets the greatest score, in evaluation."""
    head.eval()
    right = 0
    for start in range(0, len(inputs), batch):
        chosen = np.arange(start, min(start + batch, len(inputs)))
        right += int((head(inputs.take(chosen)).argmax(1) == inputs.targets[chosen]).sum())
    return right / len(inputs)


def _learned(module):
    return any(getattr(module, name) is not None for name in module.params)


def _put(network, name, module):
    owner, _, child = name.rpartition(".")
    (network.find(owner) if owner else network).set_child(child, module)


def _bar(total, what):
    import tqdm

    shown = sys.stderr.isatty()
    return tqdm.tqdm(total=total, desc=what, unit="image", leave=False, disable=not shown)
