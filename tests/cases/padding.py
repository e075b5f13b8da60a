from cases import row

CASES = [
    row("ZeroPad2d(1)", (2, 3, 4, 5), wrong=[(3, 4, 5), (4, 5)]),
    row("ZeroPad2d((1, 0, 2, 3))", (2, 3, 4, 5)),
    row("ZeroPad2d((-1, 2, 1, -2))", (2, 3, 4, 5), wrong=[(2, 3, 2, 5), (2, 3, 4, 1)]),
    row("ZeroPad2d(-1)", (2, 1, 3, 4)),
    row("ZeroPad2d(0)", (1, 2, 3, 4)),
]
