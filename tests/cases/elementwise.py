from cases import row

CASES = [
    row("Scale(3)", (4, 3), torch=None, wrong=[(4, 2), (3,)]),
    row("Scale(3, bias=False)", (2, 3, 5, 7), torch=None, wrong=[(2, 4, 5, 7)]),
    row("Scale(1)", (2, 1, 4), torch=None),
    row("Affine(2.5, -1.0)", (3, 4), torch=None),
    row("Affine()", (3, 1, 2), torch=None),
    row("Affine(shift=3)", (5,), torch=None),
    row("Power(2)", (3, 4), torch=None),
    row("Power(0.5)", (3, 4), torch=None, positive=True),
    row("Power(-1.5)", (2, 3, 2), torch=None, positive=True),
    row("Power(0)", (3, 4), torch=None),
    row("Power(1)", (3, 4), torch=None),
    row("Exp()", (3, 5), torch=None),
    row("Log()", (3, 5), torch=None, positive=True),
    row("Abs()", (3, 5), torch=None),
    row("Abs()", (2, 1, 3, 2), torch=None),
]
