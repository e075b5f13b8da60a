from cases import row

IMAGES = (3, 5, 4, 3)

CASES = [
    row("BatchNorm1d(5)", (4, 5), wrong=[(4, 6), (5,), (4, 5, 2, 2), (1, 5)]),
    row("BatchNorm1d(5)", (3, 5, 7)),
    row("BatchNorm1d(3, affine=False, track_running_stats=False)", (6, 3), empty=False),
    row("BatchNorm2d(5)", IMAGES, wrong=[(3, 4, 4, 3), (5, 4, 3), (3, 5), (1, 5, 1, 1)]),
    row("BatchNorm2d(5, 0.001, None)", IMAGES),
    row("BatchNorm2d(5, momentum=0.3)", (1, 5, 1, 2)),
    row("BatchNorm2d(5, affine=False)", IMAGES),
    row("BatchNorm2d(5, track_running_stats=False)", IMAGES, empty=False),
    row("BatchNorm2d(1)", (2, 1, 3, 3)),
    row("BatchNorm2d(2)", (3, 2, 31, 33)),
    row("LocalResponseNorm(5)", (2, 7, 3, 5), wrong=[(2, 7)]),
    row("LocalResponseNorm(4, 0.5, 0.6, 2.0)", (2, 7, 3, 5)),
    row("LocalResponseNorm(3, alpha=1.0, beta=0.5)", (2, 3, 6)),
    row("LocalResponseNorm(9, alpha=1.0, beta=1.0)", (1, 4, 17, 18)),
    row("LocalResponseNorm(1, alpha=2.0)", (2, 2, 2, 2)),
    row(
        "LocalResponseNorm(3, alpha=1.5, region='within')",
        (2, 3, 5, 6),
        torch=None,
        wrong=[(3, 5, 6)],
    ),
    row("LocalResponseNorm(4, alpha=1.0, beta=0.6, region='within')", (1, 2, 3, 70), torch=None),
]
