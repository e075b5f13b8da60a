"""Naming what is in photographs."""

import numpy as np

from flambeau import nn
from flambeau.zoo.loading import load


def ready(sources):
    """The network of a name or of files, which must know its preprocessing.

    Raises ValueError where it does not: then it can be run from Python, with arrays.
    """
    network = load(*sources)
    if network.preprocessing is None:
        raise ValueError(
            f"{' '.join(sources)} does not say how images become its input; in Python, set "
            "network.preprocessing = zoo.Preprocessing(…) and zoo.save(network, 'new.h5') once"
        )
    return network


def batches(preprocessing, paths, size):
    """Images read and prepared, `size` at a time: (paths, x (n, 3, h, w) or None, failures).

    failures: {path: exception} of those that are no image or cannot be opened; x has the others.
    """
    for start in range(0, len(paths), size):
        group, rows, failures = paths[start : start + size], [], {}
        for path in group:
            try:
                rows.append(preprocessing(path))
            except (ValueError, OSError) as error:
                failures[path] = error
        yield group, np.concatenate(rows) if rows else None, failures


def classify(network, paths, top=5, batch=16):
    """(path, [(label, probability), …]) for each image, in order; (path, exception) for the others.

    Outputs that are probabilities already stay as they are, scores go through a softmax.
    """
    for group, x, failures in batches(network.preprocessing, paths, batch):
        rows = iter(() if x is None else probabilities(network(x)))
        for path in group:
            if path in failures:
                yield path, failures[path]
                continue
            row = next(rows)
            order = row.argsort()[::-1][:top]
            yield path, [(label(network, i), float(row[i])) for i in order]


def probabilities(y):
    """Rows that sum to 1: y itself where its rows do, else their softmax.

    y (n, k, *ones) -> (n, k)

    >>> probabilities(np.zeros((1, 4), "f4")).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    if isinstance(y, tuple) or y.size != y.shape[0] * y.shape[1]:
        shape = "several arrays" if isinstance(y, tuple) else tuple(y.shape)
        raise ValueError(
            f"classify: the network must give one score a class — its output is {shape}"
        )
    y = y.reshape(len(y), -1)
    if (y >= 0).all() and (abs(y.sum(1) - 1) < 1e-3).all():
        return y
    return nn.Softmax(1)(y)


def label(network, index):
    """The name of an output, or its number where the network has no names."""
    labels = network.labels
    return labels[index] if labels and index < len(labels) else f"class {index}"
