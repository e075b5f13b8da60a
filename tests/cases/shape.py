from cases import row

CASES = [
    row("Identity()", (2, 3)),
    row("Flatten()", (2, 3, 4, 5), wrong=[()]),
    row("Flatten(0)", (2, 3, 4)),
    row("Flatten(1, 2)", (2, 3, 4, 5), wrong=[(2, 3)]),
    row("Flatten(-2)", (2, 3, 4)),
    row("Reshape(3, 4)", (2, 12), torch=None, wrong=[(2, 11), ()]),
    row("Reshape(-1)", (2, 3, 4), torch=None),
    row("Reshape(2, -1, 3)", (2, 12), torch=None, wrong=[(2, 9)]),
    row("Reshape()", (4, 1), torch=None, wrong=[(4, 2)]),
    row("Reshape(-1, 6, batch=False)", (2, 3, 4), torch=None, wrong=[(2, 5)]),
]
