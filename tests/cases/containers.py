from cases import row

CASES = [
    row("Sequential(Linear(4, 6), ReLU(), Linear(6, 2))", (5, 4), wrong=[(5, 3)]),
    row("Concat(1, Linear(4, 6), Linear(4, 2))", (5, 4), torch=None, wrong=[(5, 3)]),
    row("Concat(-1, Linear(4, 6), Sequential())", (5, 4), torch=None),
    row(
        "Parallel(1, 1, Linear(4, 3), Linear(4, 2))", (5, 2, 4), torch=None, wrong=[(5, 3, 4), (5,)]
    ),
    row("Parallel(0, -1, Linear(4, 3), Linear(4, 2))", (2, 5, 4), torch=None, empty=False),
    row("ConcatTable(Linear(4, 3), ReLU())", (5, 4), torch=None),
    row(
        "ParallelTable(Linear(4, 3), ReLU())", (5, 4), (3, 2), torch=None, wrong=[((5, 3), (3, 2))]
    ),
]
