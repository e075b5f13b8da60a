from cases import row

CASES = [  # PyTorch has functions of these, see tests/test_reduction.py
    row("SumOver(1)", (4, 5), wrong=[(4,), ()], torch=None),
    row("SumOver(0)", (7,), empty=False, wrong=[()], torch=None),
    row("SumOver(-1)", (2, 3, 300), wrong=[()], torch=None),
    row("SumOver(1, keepdim=True)", (2, 3, 5, 7), torch=None),
    row("MeanOver(1)", (4, 5), wrong=[(4,), (4, 0)], torch=None),
    row("MeanOver(0)", (4, 5), empty=False, torch=None),
    row("MeanOver(-2)", (2, 300, 3), torch=None),
    row("MeanOver(3, True)", (2, 3, 5, 7), torch=None),
    row("MaxOver(1)", (4, 5), wrong=[(4,), (4, 0)], torch=None),
    row("MaxOver(0)", (7,), empty=False, torch=None),
    row("MaxOver(-1, keepdim=True)", (2, 3, 5), torch=None),
    row("MaxOver(2)", (2, 3, 5, 300), torch=None),
    row("MinOver(1)", (4, 5), wrong=[(4,), (4, 0)], torch=None),
    row("MinOver(0, keepdim=True)", (4, 5), empty=False, torch=None),
    row("MinOver(-3)", (2, 3, 5, 7), torch=None),
]
