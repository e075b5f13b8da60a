from cases import row

CASES = [
    row("Add()", (3, 4), (3, 4), torch=None, wrong=[((3, 4), (4, 4)), ((3, 4), (4,))]),
    row("Add()", (2, 3, 5), (2, 3, 5), (2, 3, 5), torch=None),
    row("Mul()", (3, 4), (3, 4), torch=None, wrong=[((3, 4), (4, 4))]),
    row("Mul()", (2, 3, 5), (2, 3, 5), (2, 3, 5), (2, 3, 5), torch=None),
    row("Max()", (3, 4), (3, 4), torch=None, wrong=[((3, 4), (4, 4))]),
    row("Max()", (2, 3, 5), (2, 3, 5), (2, 3, 5), torch=None),
    row("JoinTable(1)", (2, 3), (2, 4), torch=None, wrong=[((2, 3), (3, 3)), ((2,), (2,))]),
    row("JoinTable(-1)", (2, 3, 2), (2, 3, 1), (2, 3, 4), torch=None),
    row("JoinTable(axis=0)", (2, 3), (1, 3), torch=None),
    row("Chunk(2)", (3, 8), torch=None, wrong=[(3, 7), (3,)]),
    row("Chunk(3, axis=-1)", (2, 5, 6), torch=None),
]
