"""Two trained networks at work: names for photographs, features, a classifier of digits.

Run by `make demo`; prints what it finds and writes report/index.html.
"""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import report

from flambeau import nn, zoo
from flambeau.zoo.classification import classify

HERE = Path(__file__).resolve().parent
PHOTOS = sorted((HERE / "photos").glob("*.jpg"))
LAYER = "_blocks.3"  # early enough to have strokes and corners, late enough to know about shapes
HELD_OUT = 360
EPOCHS = 15


def main():
    start = time.perf_counter()
    lite = zoo.load("efficientnet-lite0")
    resnet = zoo.load("open-nsfw")
    print(f"Two networks loaded ({seconds(start)})")
    names = name_photographs(lite)
    similar = compare_photographs(resnet)
    digits = learn_digits(lite)
    path = Path("report/index.html")
    path.parent.mkdir(exist_ok=True)
    path.write_text(report.page(names, similar, digits, drawings(lite, resnet)), "utf-8")
    print(f"\nAll in {seconds(start)}. The report: {path}")


def name_photographs(network):
    """EfficientNet-Lite0 says what is in the photographs: [(path, [(label, probability), …])]."""
    start = time.perf_counter()
    names = list(classify(network, PHOTOS))
    print(f"\nEfficientNet-Lite0 on {len(names)} photographs ({seconds(start)})")
    for path, labels in names:
        print(f"  {path.name:12}", "   ".join(f"{label} {p:.0%}" for label, p in labels[:3]))
    return names


def compare_photographs(network):
    """How alike the photographs are to a Caffe ResNet: the cosines of the values it pools last."""
    start = time.perf_counter()
    x = network.preprocessing(PHOTOS)
    _, inner = network(x, taps=["pool"])
    features = inner["pool"].reshape(len(x), -1)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = features @ features.T
    print(f"\nA Caffe ResNet's `pool`, {features.shape[1]} values: cosines ({seconds(start)})")
    print(" " * 14 + "".join(f"{path.name:>14}" for path in PHOTOS))
    for path, row in zip(PHOTOS, cosines, strict=True):
        print(f"  {path.name:12}" + "".join(f"{c:14.2f}" for c in row))
    return [path.stem for path in PHOTOS], cosines


def learn_digits(network):
    """Handwritten digits: a linear classifier on raw pixels and one on features, side by side."""
    data = np.load(HERE / "digits" / "digits.npz")
    images, labels = data["images"], data["labels"].astype("i8")
    start = time.perf_counter()
    features = extract(network, images)
    took = seconds(start)
    shape = " x ".join(map(str, features.shape[1:]))
    print(f"\n{len(images)} digits: {shape} values of EfficientNet-Lite0's {LAYER} ({took})")
    order = np.random.default_rng(0).permutation(len(images))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    curves = {}
    for title, x in (("raw pixels", images[:, None].astype("f4")), ("features", features)):
        start = time.perf_counter()
        curves[title], predicted = train(x, labels, training, held_out)
        count = x[0].size
        print(f"  linear classifier on {title} ({count} values each, {seconds(start)})")
    print(f"\n  right of {HELD_OUT} held-out digits, by epoch\n  epoch", *curves, sep="   ")
    for epoch in range(EPOCHS):
        columns = [f"{scores[epoch]:{len(title)}.1%}" for title, scores in curves.items()]
        print(f"  {epoch + 1:5}", *columns, sep="   ")
    tested = list(zip(images[held_out], labels[held_out], predicted, strict=True))
    return {"curves": curves, "tested": tested, "layer": LAYER, "values": features[0].size}


def extract(network, images, size=32, batch=64):
    """The values of an inner layer for grey images (n, h, w) of 0 to 16, blown up to a square."""
    trunk = network.until(LAYER).eval()
    prepare = replace(network.preprocessing, size=size, resize=size)
    pixels = (images * 15).astype("u1")
    starts = range(0, len(images), batch)
    return np.concatenate([trunk(prepare(list(pixels[s : s + batch]))) for s in starts])


def train(x, labels, training, held_out, batch=64):
    """Train a linear classifier; the share of held-out ones it gets right after each epoch, and
    what it takes the held-out ones for in the end."""
    nn.seed(0)
    count = x[0].size
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(count), nn.Linear(count, 10))
    net.want_dx = False
    criterion = nn.CrossEntropyLoss()
    optimizer = nn.optim.Adam(net, lr=0.01)
    schedule = nn.optim.CosineLR(optimizer, EPOCHS)
    generator = np.random.default_rng(1)
    scores = []
    for _ in range(EPOCHS):
        net.train()
        order = generator.permutation(training)
        for start in range(0, len(order), batch):
            chosen = order[start : start + batch]
            y = net(x[chosen])
            criterion.forward(y, labels[chosen])
            net.zero_grad()
            net.backward(x[chosen], criterion.backward(y, labels[chosen]))
            optimizer.step()
        schedule.step()
        predicted = net.eval()(x[held_out]).argmax(1)
        scores.append(float((predicted == labels[held_out]).mean()))
    return scores, predicted


def drawings(lite, resnet):
    """Parts of both networks as SVG: [(title, text)]."""
    first = resnet.until("relu_stage0_block0")
    block = lite["_blocks"]["2"]
    return [
        (
            "The Caffe ResNet up to its first residual block, as its prototxt names it",
            first.svg(np.zeros((1, 3, 224, 224), "f4")),
        ),
        ("A block of EfficientNet-Lite0", block.svg(np.zeros((1, 24, 56, 56), "f4"))),
    ]


def seconds(start):
    """The time since `start`, for people."""
    return f"{time.perf_counter() - start:.1f} s"


if __name__ == "__main__":
    main()
