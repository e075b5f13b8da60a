"""Training a classifier of one's own on top of a trained network."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flambeau import nn, zoo


class Folders:
    """Images in one folder a class, split into training and held-out ones.

    folder: has at least two folders of images; their names are the labels.
    validation: the share of each class that is held out, at least one image.
    Files that are no image are in `skipped`, as (path, why). Raises ValueError when fewer than two
    classes are left, or a class has fewer than two images.
    """

    def __init__(self, folder, validation=0.2, seed=0):
        if not 0 < validation < 1:
            raise ValueError(f"finetune: validation must lie between 0 and 1 — got {validation}")
        folder = Path(folder)
        found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        self.labels = [p.name for p in found]
        if len(found) < 2:
            raise ValueError(
                f"finetune: {folder} must hold one folder of images a class, at least two — "
                f"got {', '.join(self.labels) or 'none'}"
            )
        self.skipped, self.training, self.held_out = [], [], []
        generator = np.random.default_rng(seed)
        for number, place in enumerate(found):
            images = [p for p in sorted(place.rglob("*")) if p.is_file() and self._is_image(p)]
            if len(images) < 2:
                raise ValueError(
                    f"finetune: the class {place.name} must have at least two images — "
                    f"got {len(images)}"
                )
            generator.shuffle(images)
            held = min(max(1, round(validation * len(images))), len(images) - 1)
            self.held_out += [(path, number) for path in images[:held]]
            self.training += [(path, number) for path in images[held:]]

    def _is_image(self, path):
        from PIL import Image

        try:
            with Image.open(path) as image:
                image.verify()
        except Exception as error:  # Pillow's readers raise whatever the damage leads to
            self.skipped.append((str(path), f"is no image: {error}"))
            return False
        return True

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
    epochs=5,
    lr=1e-3,
    batch=16,
    flip=False,
    seed=0,
):
    """Give a network a new classifier for the labels of `data` and train it: an Epoch at a time.

    network: with `preprocessing`; it is changed in place.
    freeze_until: the last child that stays as it is; None: all but the classifier, "": nothing.
    The network of the best epoch so far is in the file `output`, whole at any time.
    Adam at the learning rate `lr`, which falls to 0 as a cosine; flip: mirror images at random.
    """
    new_classifier(network, len(data.labels))
    network.labels = list(data.labels)
    _freeze(network, freeze_until)
    network.want_dx = False  # nobody asks for the gradient of the photographs
    optimizer = nn.optim.Adam(network, lr=lr)
    steps = -(-len(data.training) // batch) * epochs
    schedule = nn.optim.CosineLR(optimizer, steps)
    generator = np.random.default_rng(seed)
    best = -1.0
    for number in range(1, epochs + 1):
        network.train()
        loss = _pass(network, data.training, batch, optimizer, schedule, flip, generator)
        score = accuracy(network, data.held_out, batch)
        better = score > best
        if better:
            best = score
            zoo.save(network, output)
        yield Epoch(number, loss, score, better)


def _pass(network, rows, batch, optimizer, schedule, flip, generator):
    """One pass in random order; the mean loss."""
    criterion, total = nn.CrossEntropyLoss(), 0.0
    order = generator.permutation(len(rows))
    bar = _bar(len(rows))
    for start in range(0, len(order), batch):
        chosen = [rows[i] for i in order[start : start + batch]]
        x, target = _load(network, chosen)
        if flip:
            mirrored = generator.random(len(x)) < 0.5
            x[mirrored] = x[mirrored, :, :, ::-1]
        y = network(x)
        total += criterion.forward(y, target) * len(x)
        optimizer.zero_grad()
        network.backward(x, criterion.backward(y, target))
        optimizer.step()
        schedule.step()
        bar.update(len(x))
    bar.close()
    return total / len(rows)


def _bar(total):
    import tqdm

    return tqdm.tqdm(total=total, unit="image", leave=False, disable=not sys.stderr.isatty())


def _load(network, rows):
    x = network.preprocessing([path for path, _ in rows])
    return x, np.array([number for _, number in rows])


def accuracy(network, rows, batch=16):
    """The share of (path, class) rows that the network gets right, in evaluation."""
    network.eval()
    right = 0
    for start in range(0, len(rows), batch):
        x, target = _load(network, rows[start : start + batch])
        right += int((network(x).reshape(len(x), -1).argmax(1) == target).sum())
    return right / len(rows)


def new_classifier(network, classes):
    """Replace the last layer with weights by a fresh one with so many outputs.

    A softmax behind it is left off: the loss works on scores. Raises ValueError where the last
    layer with weights is neither Linear nor Conv2d.
    """
    learned = [
        (name, m) for name, m in network.named_modules() if m.params and m.weight is not None
    ]
    name, last = learned[-1]
    if isinstance(last, nn.Linear):
        fresh = nn.Linear(last.in_features, classes, bias=last.bias is not None)
    elif isinstance(last, nn.Conv2d):
        kernel, padding = last.weight.shape[2:], last.padding
        fresh = nn.Conv2d(last.weight.shape[1], classes, tuple(kernel), padding=padding)
    else:
        raise ValueError(
            f"finetune: the last layer with weights must be Linear or Conv2d — got {name} {last!r}"
        )
    owner, _, child = name.rpartition(".")
    (network.find(owner) if owner else network).set_child(child, fresh)
    for path, module in network.named_modules():
        if isinstance(module, (nn.Softmax, nn.LogSoftmax)):
            owner, _, child = path.rpartition(".")
            (network.find(owner) if owner else network).set_child(child, nn.Identity())
    return network


def _freeze(network, until):
    """Freeze up to a child; None: everything but the last layer with weights."""
    if until is not None:
        return network.freeze(until=until) if until else network
    network.freeze()
    last = [m for m in network.modules() if m.params and m.weight is not None][-1]
    last.unfreeze()
    for module in network.modules():
        if any(m is last for m in module.modules()):
            module.frozen = False  # the containers around it
    return network
