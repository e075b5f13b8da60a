from cases import row

SEQUENCES = (3, 2, 5)  # (t, n, i)
STATE = (2, 2, 4)

# torch=None: PyTorch gives nested tuples; tests/test_recurrent.py compares
CASES = [
    row("LSTM(5, 4)", SEQUENCES, torch=None, wrong=[(3, 2, 6), (3, 5), (0, 2, 5)], empty=False),
    row(
        "LSTM(5, 4, 2)",
        *(SEQUENCES, STATE, STATE),
        torch=None,
        wrong=[(SEQUENCES, STATE)],
        empty=False,
    ),
    row("LSTM(5, 3, bias=False, bidirectional=True)", (1, 3, 5), torch=None, empty=False),
    row("LSTM(5, 4, 2, batch_first=True, bidirectional=True)", (2, 3, 5), torch=None),
    row("LSTM(1, 1, 3, dropout=0.5)", (2, 1, 1), torch=None, empty=False),
    row("LSTM(2, 37)", (2, 17, 2), torch=None, empty=False),
    row("GRU(5, 4)", SEQUENCES, torch=None, wrong=[(3, 2, 6), (3, 5), (0, 2, 5)], empty=False),
    row(
        "GRU(5, 4, 2)",
        *(SEQUENCES, STATE),
        torch=None,
        wrong=[(SEQUENCES, (1, 2, 4))],
        empty=False,
    ),
    row("GRU(5, 3, bias=False, bidirectional=True)", (1, 3, 5), torch=None, empty=False),
    row("GRU(5, 4, 2, batch_first=True, dropout=0.3)", (2, 3, 5), torch=None),
    row("GRU(2, 37)", (2, 17, 2), torch=None, empty=False),
    row("RNN(5, 4)", SEQUENCES, torch=None, wrong=[(3, 2, 6), (3, 5), (0, 2, 5)], empty=False),
    row(
        "RNN(5, 4, 2, 'relu')",
        *(SEQUENCES, STATE),
        torch=None,
        wrong=[(SEQUENCES, (2, 2, 5))],
        empty=False,
    ),
    row("RNN(5, 3, bias=False, bidirectional=True)", (1, 3, 5), torch=None, empty=False),
    row("RNN(2, 37, batch_first=True)", (17, 2, 2), torch=None),
    row(
        "Unroll(Sequential(JoinTable(1), Linear(9, 4), Tanh()))",
        *(SEQUENCES, (2, 4)),
        torch=None,
        wrong=[SEQUENCES, ((0, 2, 5), (2, 4))],
        empty=False,
    ),
]
