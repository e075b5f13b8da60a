import numpy as np

from cases import row

INDICES = np.random.default_rng(0).integers(0, 7, (6, 5))

CASES = [
    row("Embedding(7, 3)", INDICES, torch=None),
    row("Embedding(7, 3)", INDICES[0].astype("i4"), torch=None),
    row("Embedding(7, 40)", INDICES, torch=None),
]
