from cases import row

CASES = [
    row("Padding(1, 2, 3)", (2, 3, 4, 5), torch=None, wrong=[(4,)]),
    row("Padding(1, 2)", (2, 1), torch=None),
    row("Padding(-2, 0, after=2)", (2, 3, 4), torch="ZeroPad2d((0, 0, 0, 2))", wrong=[(4,)]),
    row("Padding(-1, 2, 1)", (2, 3, 4), torch="ConstantPad1d((2, 1), 0.0)"),
    row("Padding(1, 0)", (3, 4), torch="Identity()"),
]
