from cases import row

IMAGES = (2, 3, 9, 7)
WRONG = [(3, 9, 7), (2, 3), (2, 3, 0, 7)]
SMALL = [*WRONG, (2, 3, 1, 7)]

CASES = [
    row("MaxPool2d(2)", IMAGES, wrong=SMALL),
    row("MaxPool2d(3, 2, 1)", IMAGES, wrong=WRONG),
    row("MaxPool2d(3, 1, 1)", (1, 2, 5, 6)),
    row("MaxPool2d((3, 2), (1, 3))", IMAGES),
    row("MaxPool2d(2, 3)", IMAGES),
    row("MaxPool2d((2, 3), 2, (1, 0), ceil_mode=True)", IMAGES),
    row("MaxPool2d(3, 2, ceil_mode=True)", (1, 1, 6, 8)),
    row("MaxPool2d(3, 2, 1, ceil_mode=True)", (1, 2, 2, 1)),
    row("MaxPool2d(3, 2, 1, 2)", IMAGES),
    row("MaxPool2d((1, 3), 1, (0, 1), (1, 2))", (2, 1, 4, 9)),
    row("MaxPool2d(1)", (1, 2, 3, 3)),
    row("MaxPool2d(3, 2)", (1, 1, 5, 141)),
    row("MaxPool2d(2)", (1, 2, 3, 150)),
    row("AvgPool2d(2)", IMAGES, wrong=SMALL),
    row("AvgPool2d(3, 2, 1)", IMAGES, wrong=WRONG),
    row("AvgPool2d(3, 1, 1, count_include_pad=False)", (1, 2, 5, 6)),
    row("AvgPool2d((3, 2), (1, 3))", IMAGES),
    row("AvgPool2d((2, 3), 2, (1, 0), ceil_mode=True)", IMAGES),
    row("AvgPool2d(3, 2, 1, True, False)", (1, 2, 6, 8)),
    row("AvgPool2d(3, 2, 1, True)", (1, 2, 6, 8)),
    row("AvgPool2d(7)", (2, 3, 7, 7)),
    row("AvgPool2d(3, 2)", (1, 1, 5, 141)),
    row("AdaptiveAvgPool2d(1)", (2, 5, 7, 7), wrong=WRONG),
    row("AdaptiveAvgPool2d((2, 3))", IMAGES),
    row("AdaptiveAvgPool2d((None, 2))", IMAGES),
    row("AdaptiveAvgPool2d(6)", (1, 2, 4, 3)),
    row("AdaptiveAvgPool2d((4, None))", (1, 2, 9, 7)),
]
