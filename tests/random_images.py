"""Random calls of the kernels of images: convolutions, pooling, normalisation, padding."""

from math import prod

import numpy as np

from flambeau.kernels.reference.conv import output_size, transposed_size

from random_draws import EXACT, Call, sums

WINOGRAD = 64  # times the error of a sum: its transforms add and take away what is much greater
FUSED = 32  # products of results: the errors of the first are summed by the second


def bounds(draw):
    return draw.pick((None, None), (0.0, None), (0.0, 6.0), (-1.0, 1.0), (0.0, np.inf))


def times(kernel):
    return WINOGRAD if tuple(kernel) == (3, 3) else 8


def channels(draw):
    """(groups, channels in, channels out)"""
    if draw.chance(0.25):  # depthwise, or nearly
        g = draw.pick(1, 2, 3, 4, 8, 16, 17, 24, 32, 40)
        return g, g * draw.pick(1, 1, 1, 2, 3), g * draw.pick(1, 1, 1, 2, 3, 5)
    if draw.chance(0.15):
        g = draw.pick(2, 3, 4)
        return g, g * draw.size(20), g * draw.size(20)
    return 1, draw.size(), draw.size()


def geometry(draw):
    """n, (groups, in, out), (h, w), kernel, stride, padding, dilation of a convolution."""
    while True:
        g, c, k = channels(draw)
        kernel = [draw.pick(1, 1, 2, 3, 3, 3, 4, 5, 7) for _ in "hw"]
        if draw.chance(0.6):
            kernel[1] = kernel[0]
        stride = (draw.pick(1, 1, 1, 2, 3),) * 2
        if draw.chance(0.2):
            stride = draw.whole(1, 3), draw.whole(1, 3)
        dilation = (1, 1) if draw.chance(0.8) else (draw.whole(1, 3), draw.whole(1, 3))
        padding = tuple(
            draw.pick(0, 0, t // 2 * d, draw.whole(0, t))
            for t, d in zip(kernel, dilation, strict=True)
        )
        n, size = draw.pick(1, 1, 2, 3, 5, 8), (draw.size(30), draw.size(30))
        wide = all(
            s + 2 * p >= d * (t - 1) + 1
            for s, p, d, t in zip(size, padding, dilation, kernel, strict=True)
        )
        if wide and n * c * k // g * prod(size) * prod(kernel) < 4e7:
            return n, (g, c, k), size, tuple(kernel), stride, padding, dilation


def conv(draw):
    n, (g, c, k), size, kernel, *options = geometry(draw)
    grid = output_size(size, kernel, *options)
    x, w, b = draw.array(n, c, *size), draw.values(k, c // g, *kernel), draw.maybe(0.7, k)
    if draw.chance(0.2):
        w = draw.laid(w)
    other = draw.array(n, k, *grid) if draw.chance(0.4) else None
    low, high = bounds(draw)
    near = sums(c // g * prod(kernel), times(kernel))
    for _ in range(draw.pick(1, 2)):  # the second may read weights that were kept
        yield Call("conv2d", (x, w, b, *options, g), near)
        if draw.chance(0.3):
            np.negative(w, w)
        yield Call("conv2d_fused", (x, w, b, other, low, high, *options, g), near)
    if draw.chance(0.3):  # more at the bottom and at the right
        stride, (top, left), dilation = options
        around = top, left, top + draw.whole(0, 3), left + draw.whole(0, 3)
        args = x, w, b, None, low, high, stride, around, dilation, g
        yield Call("conv2d_fused", args, near)
    if min(grid) >= 2 and draw.chance(0.3):
        ceil = draw.chance(0.5)
        yield Call("conv2d_pooled", (x, w, b, (low, high), (*options, g), ceil), near)
    dw, db = draw.maybe(0.85, *w.shape), draw.maybe(0.7, k)
    if dw is not None and draw.chance(0.2):
        dw = draw.laid(dw)
    add = draw.array(*x.shape) if draw.chance(0.3) else None
    args = x, draw.array(n, k, *grid), w, dw, db, add, *options, g, draw.chance(0.8)
    near = sums(k // g * prod(kernel), times(kernel))
    yield Call("conv2d_backward", args, near, sums(n * prod(grid), times(kernel)))


def conv_transposed(draw):
    while True:
        n, (g, c, k), size, kernel, stride, padding, dilation = geometry(draw)
        more = tuple(draw.whole(0, s - 1) for s in stride)
        grid = transposed_size(size, kernel, stride, padding, more, dilation)
        if min(grid) >= 1:
            break
    x, w, b = draw.array(n, c, *size), draw.values(c, k // g, *kernel), draw.maybe(0.7, k)
    near = sums(c // g * prod(kernel), times(kernel))
    yield Call("conv_transpose2d", (x, w, b, stride, padding, more, dilation, g), near)
    dw, db = draw.maybe(0.85, *w.shape), draw.maybe(0.7, k)
    args = x, draw.array(n, k, *grid), w, dw, db, stride, padding, dilation, g, draw.chance(0.8)
    near = sums(k // g * prod(kernel), times(kernel))
    summed = sums(n * max(prod(size), prod(grid)), times(kernel))
    yield Call("conv_transpose2d_backward", args, near, summed)


def conv_joined(draw):
    n, h, w = draw.pick(1, 2, 4), draw.size(20), draw.size(20)
    same = draw.array(n, draw.size(), h, w)
    xs, ws, bs, limits, options = [], [], [], [], []
    for _ in range(draw.whole(2, 4)):
        t, k = draw.pick(1, 1, 3, 5), draw.size()
        xs.append(same if draw.chance(0.5) else draw.array(n, draw.size(), h, w))
        ws.append(draw.values(k, xs[-1].shape[1], t, t))
        bs.append(draw.maybe(0.7, k))
        limits.append(bounds(draw))
        options.append(((1, 1), (t // 2, t // 2), (1, 1), 1))
    near = sums(max(w[0].size for w in ws), WINOGRAD)
    for _ in range(2):
        yield Call("conv2d_joined", (xs, ws, bs, limits, options), near)


def conv_chained(draw):
    """1 x 1 or a first 3 x 3, then one by channel, then perhaps 1 x 1."""
    n, h, w = draw.pick(1, 2, 3), draw.size(40), draw.size(40)
    first, t, stride = draw.pick(1, 1, 3), draw.pick(3, 5), draw.pick(1, 2)
    c, k = draw.size(24 if first == 3 else 40), draw.pick(8, 16, 17, 24, 32, 40, 48, 64, 96)
    start = draw.pick(1, 2) if first == 3 else 1
    padding = draw.pick(t // 2, t // 2, 0)
    ws = [draw.values(k, c, first, first), draw.values(k, 1, t, t)]
    options = [
        ((start, start), (first // 2, first // 2), (1, 1), 1),
        ((stride, stride), (padding, padding), (1, 1), k),
    ]
    if draw.chance(0.7):
        ws.append(draw.values(draw.size(), k, 1, 1))
        options.append(((1, 1), (0, 0), (1, 1), 1))
    size = h, w
    for weight, (*how, _) in zip(ws, options, strict=True):
        size = output_size(size, weight.shape[2:], *how)
        if min(size) < 1:
            return
    bs, limits = [draw.maybe(0.8, len(weight)) for weight in ws], [bounds(draw) for _ in ws]
    other = draw.array(n, len(ws[-1]), *size) if draw.chance(0.4) else None
    near = sums(prod(weight[0].size for weight in ws), FUSED)
    for x in [draw.array(n, c, h, w)] * 2:
        yield Call("conv2d_chained", (x, other, ws, bs, limits, options), near)


def pooling(draw):
    shape = n, c, h, w = draw.pick(1, 2, 3, 8), draw.size(), draw.size(30), draw.size(30)
    kernel = (draw.pick(2, 3),) * 2 if draw.chance(0.5) else (draw.whole(1, 5), draw.whole(1, 5))
    stride = (2, 2) if draw.chance(0.5) else (draw.whole(1, 4), draw.whole(1, 4))
    padding, ceil = tuple(draw.whole(0, t // 2) for t in kernel), draw.chance(0.5)
    dilation = (1, 1) if draw.chance(0.8) else (draw.whole(1, 2), draw.whole(1, 2))
    x = draw.values(*shape)
    for value in (np.nan, np.inf, -np.inf):
        if draw.chance(0.1):
            x[draw.random.random(shape) < 0.05] = value
    x = draw.laid(x)
    if min(output_size((h, w), kernel, (1, 1), padding, dilation)) >= 1:
        keep = draw.chance(0.6)
        args = x, kernel, stride, padding, dilation, ceil, keep
        y, index = yield Call("max_pool2d", args, EXACT)
        if keep:
            args = draw.array(*y.shape), index, (h, w)
            yield Call("max_pool2d_backward", args, sums(prod(kernel)))
    x, to = draw.array(*shape), (draw.whole(1, 8), draw.whole(1, 8))
    if min(output_size((h, w), kernel, (1, 1), padding, (1, 1))) >= 1:
        options = kernel, stride, padding, ceil, draw.chance(0.5)
        y = yield Call("avg_pool2d", (x, *options), sums(prod(kernel)))
        dy = draw.array(*y.shape)
        yield Call("avg_pool2d_backward", (x, dy, *options), sums(prod(kernel)))
    y = yield Call("adaptive_avg_pool2d", (x, to), sums(h * w))
    yield Call("adaptive_avg_pool2d_backward", (x, draw.array(*y.shape), to), sums(64))


NORM = 200  # small variances make great numbers of what was rounded: 1/√eps = 316 at worst


def normalization(draw):
    shape = draw.pick(2, 5, 33, 100), draw.size()
    if draw.chance(0.7):
        shape = draw.pick(1, 2, 3, 8), draw.size(), draw.size(20), draw.size(20)
    n, c = shape[0] * prod(shape[2:]), shape[1]
    if n < 2:
        return
    x = draw.laid((2 * draw.random.standard_normal(shape) + 1).astype(draw.dtype))
    w, b, mean, var = draw.maybe(0.8, c), draw.maybe(0.8, c), draw.maybe(0.8, c), None
    if mean is not None:
        var = np.abs(draw.values(c)) + draw.dtype.type(0.5)
    training, want, near = mean is None or draw.chance(0.7), draw.chance(0.8), sums(n, NORM)
    args = x, w, b, mean, var, 0.1, 1e-5, training
    y, at, scale = yield Call("batch_norm", args, near)
    dw, db, dy = draw.maybe(0.85, c), draw.maybe(0.85, c), draw.array(*shape)
    args = x, dy, w, dw, db, at, scale, training, want
    yield Call("batch_norm_backward", args, near)
    if len(shape) < 4:
        return
    other = draw.array(*shape) if draw.chance(0.5) else None
    args = x, other, w, b, mean, var, 0.1, 1e-5
    y, saved = yield Call("batch_norm_relu", args, near, None, lambda y: (y[0], *y[1][:2]))
    args = x, y, dy, w, b, dw, db, saved, want, other is not None
    yield Call("batch_norm_relu_backward", args, near)
    if other is not None:
        yield from pair(draw, x, other, dy, near)
    yield from norm_pool(draw, shape, w, dw, db, near)


def norm_pool(draw, shape, w, dw, db, near):
    """Normalised values, of which the greatest of each window go through a ReLU.

    Those of a window are alike or clearly apart, and none is near 0: rounding would choose.
    """
    n, c, h, width = shape
    x = draw.laid(np.round(4 * draw.random.standard_normal(shape)).astype(draw.dtype))
    b = (draw.random.standard_normal(c) + 0.01).astype(draw.dtype)
    kernel = draw.pick(1, 2, 3), draw.pick(1, 2, 3)
    padding = tuple(draw.pick(0, k // 2) for k in kernel)
    if any(k > s + 2 * p for k, s, p in zip(kernel, (h, width), padding, strict=True)):
        return
    stride = draw.pick(1, 2, 3), draw.pick(1, 2, 3)
    pool = kernel, stride, padding, (1, 1), draw.chance(0.4)
    norm = w, b, None, None, 0.1, 1e-3
    y, saved = yield Call(
        "batch_norm_pool_relu", (x, norm, pool), near, None, lambda y: (y[0], *y[1][:3])
    )
    learned = w, dw, db, draw.chance(0.8)
    args = x, y, draw.array(*y.shape), learned, pool, saved
    yield Call("batch_norm_pool_relu_backward", args, near)


def pair(draw, x, other, dy, near):
    """Two that are normalised, added and go through a ReLU."""
    c, norms, learned = x.shape[1], [], []
    for _ in range(2):
        w, b, running = draw.maybe(0.8, c), draw.maybe(0.8, c), [None, None]
        if draw.chance(0.8):
            running = [draw.values(c), np.abs(draw.values(c)) + draw.dtype.type(0.5)]
        norms.append((w, b, *running, draw.pick(0.1, 0.5), draw.pick(1e-5, 1e-3)))
        learned.append((w, draw.maybe(0.85, c), draw.maybe(0.85, c), draw.chance(0.8)))
    y, saved = yield Call(
        "batch_norm_pair_relu", (x, other, *norms), near, None, lambda y: (y[0], *y[1][:4])
    )
    yield Call("batch_norm_pair_relu_backward", (x, other, y, dy, *learned, saved), near)


def response_norm(draw):
    shape = draw.pick(1, 2, 3), draw.size(), draw.size(15), draw.size(15)
    options = draw.pick(1, 3, 5, 4, 2), draw.pick(1e-4, 0.5), draw.pick(0.75, 0.5, 1.0, 0.6)
    options += draw.pick(1.0, 2.0), draw.chance(0.4)
    x, near = draw.array(*shape), sums(25, 16)
    yield Call("local_response_norm", (x, *options), near)
    yield Call("local_response_norm_backward", (x, draw.array(*shape), *options), near)


def padding(draw):
    shape = draw.pick(1, 2, 3), draw.size(), 3 + draw.size(15), 3 + draw.size(15)
    around = tuple(draw.whole(-1, 3) for _ in range(4))
    y = yield Call("pad2d", (draw.special(*shape), around), EXACT)
    yield Call("pad2d_backward", (draw.special(*y.shape), around), EXACT)


def frames(draw):
    """What convolutions over three axes are made of."""
    n, c, depth, h, w = draw.pick(1, 2), draw.size(10), draw.size(10), draw.size(8), draw.size(8)
    taps, stride, padding, dilation = draw.whole(1, 3), draw.pick(1, 2), draw.pick(0, 1), 1
    if draw.chance(0.3):
        dilation = 2
    count = (depth + 2 * padding - dilation * (taps - 1) - 1) // stride + 1
    if count < 1:
        return
    x, options = draw.array(n, c, depth, h, w), (taps, stride, padding, dilation)
    y = yield Call("frames", (x, count, *options), EXACT)
    args = draw.array(*y.shape), draw.maybe(0.5, c), n, depth, *options
    yield Call("frames_sum", args, sums(taps))


FAMILIES = (
    conv,
    conv_transposed,
    conv_joined,
    conv_chained,
    pooling,
    normalization,
    response_norm,
    padding,
    frames,
)
