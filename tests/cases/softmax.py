from cases import row

CASES = [
    row("Softmax()", (4, 5), torch="Softmax(1)", wrong=[(4,), ()]),
    row("Softmax(dim=-1)", (2, 3, 33), wrong=[()]),
    row("Softmax(0)", (4, 5), empty=False, wrong=[()]),
    row("Softmax(0)", (7,), empty=False),
    row("Softmax(1)", (2, 5, 3, 23)),
    row("Softmax(-3)", (2, 1, 3, 4)),
    row("Softmax(2)", (2, 3, 4, 1), wrong=[(2, 3)]),
    row("LogSoftmax()", (4, 5), torch="LogSoftmax(1)", wrong=[(4,)]),
    row("LogSoftmax(dim=-1)", (2, 3, 33)),
    row("LogSoftmax(0)", (4, 5), empty=False),
    row("LogSoftmax(1)", (2, 5, 3, 23)),
    row("LogSoftmax(-2)", (2, 3, 1, 4)),
]
