from cases import row

CASES = [
    row("Linear(5, 3)", (4, 5), wrong=[(4, 6), ()]),
    row("Linear(5, 3, bias=False)", (4, 5)),
    row("Linear(1, 1)", (1, 1)),
    row("Linear(7, 33)", (2, 3, 7), wrong=[(7, 2)]),
    row("Linear(40, 70)", (65, 40)),
    row("Linear(6, 2)", (6,), empty=False),
]
