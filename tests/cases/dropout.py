from cases import row

CASES = [
    row("Dropout()", (4, 5), torch=None),
    row("Dropout(0.2)", (2, 3, 5, 7), torch=None),
    row("Dropout(p=0)", (4, 5)),
    row("Dropout(p=1)", (4, 5)),
    row("Dropout(0.9, inplace=True)", (3,), torch=None),
]
