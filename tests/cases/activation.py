from cases import row

CASES = [
    row("ReLU()", (4, 5)),
    row("ReLU()", (2, 3, 5, 7)),
    row("ReLU(inplace=True)", (3, 1), torch="ReLU()"),
    row("ReLU6()", (4, 5)),
    row("Clamp(-0.5, 0.7)", (3, 5), torch="Hardtanh(-0.5, 0.7)"),
    row("Clamp(0, 1)", (2, 3, 2), torch="Hardtanh(0, 1)"),
    row("LeakyReLU()", (4, 5)),
    row("LeakyReLU(0.2)", (2, 3, 5)),
    row("PReLU()", (4, 5)),
    row("PReLU()", (7,)),
    row("PReLU(3)", (4, 3), wrong=[(4, 2), (3,)]),
    row("PReLU(3, init=-0.5)", (2, 3, 5, 7), wrong=[(2, 5, 3, 7)]),
    row("ELU()", (4, 5)),
    row("ELU(alpha=0.7)", (2, 3, 5)),
    row("Sigmoid()", (4, 5)),
    row("Sigmoid()", (2, 3, 5, 7)),
    row("Tanh()", (4, 5)),
    row("Tanh()", (2, 3, 1, 7)),
    row("Softplus()", (4, 5)),
    row("Softplus(beta=2.5)", (2, 3, 5)),
]
