from cases import row

CASES = [
    row("GELU()", (4, 5)),
    row("GELU()", (2, 3, 5, 7)),
    row("GELU(approximate='tanh')", (4, 5)),
    row("SiLU()", (4, 5)),
    row("SiLU(inplace=True)", (2, 3, 5, 7), torch="SiLU()"),
    row("Mish()", (4, 5)),
    row("Hardsigmoid()", (9, 11), torch=None),  # see tests/test_transfer.py
    row("Hardswish()", (9, 11)),
    row("Softsign()", (4, 5)),
    row("LogSigmoid()", (2, 3, 5)),
    row("Hardtanh()", (4, 5)),
    row("Hardtanh(-0.3, 0.8)", (2, 3, 5)),
    row("Tanhshrink()", (4, 5)),
    row("Softshrink()", (4, 5)),
    row("Softshrink(0.2)", (2, 3, 5)),
    row("Hardshrink()", (4, 5)),
    row("Hardshrink(lambd=0.2)", (2, 3, 5)),
    row("Threshold(0.1, 20)", (4, 5)),
    row("Threshold(-0.2, -3.5)", (2, 3, 5)),
    row("CELU()", (4, 5)),
    row("CELU(alpha=0.5)", (2, 3, 5)),
    row("SELU()", (4, 5)),
]
