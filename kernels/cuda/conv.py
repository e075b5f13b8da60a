"""Two-dimensional convolution, plain and transposed."""

import functools
import math

from flambeau.kernels.cuda import device, source
from flambeau.kernels.cuda.arrays import concatenate, contiguous, empty
from flambeau.kernels.cuda.elementwise import add
from flambeau.kernels.cuda.pooling import max_pool2d
from flambeau.kernels.cuda.product import ANY, join, order, plan

# Groups of so few channels take a thread an element: tiles of a product would be mostly empty.
few_channels = 8

UNBOUNDED = -math.inf, math.inf

_BLOCKS = 1024  # gradients of fewer biases are taken in parts, a block each


def conv2d(x, w, b, stride, padding, dilation, groups):
    """y = x * w + b        x (n, c, h, w), w (k, c/groups, p, q), b (k,) or None"""
    return conv2d_fused(x, w, b, None, None, None, stride, padding, dilation, groups)


def conv2d_fused(x, w, b, other, low, high, stride, padding, dilation, groups):
    """y = clamp(conv2d(x, w, b) + other, low, high)        other, low, high may be None"""
    x, w = contiguous(x), contiguous(w)
    other = None if other is None else contiguous(other)
    numbers = _padded(x, w, stride, padding, dilation, groups)
    n, k, out = numbers[0], numbers[4], numbers[7:9]
    y = empty(x, (n, k, *out), x.dtype)
    _forward(x, w, b, other, y, _limits(low, high), numbers)
    return y


def conv2d_joined(xs, ws, bs, bounds, options):
    """y = conv2d_fused(x, w, b, None, *bounds, *options) of each, one after another as channels"""
    parts = list(zip(xs, ws, bs, bounds, options, strict=True))
    numbers = [_padded(x, w, *o) for x, w, _, _, o in parts]
    if any(_made("forward", few_channels, None, *each) is None for each in numbers):
        return concatenate([conv2d_fused(x, w, b, None, *lh, *o) for x, w, b, lh, o in parts], 1)
    n, out, whole, first = numbers[0][0], numbers[0][7:9], sum(each[4] for each in numbers), 0
    y = empty(xs[0], (n, whole, *out), xs[0].dtype)
    for (x, w, b, lh, _), each in zip(parts, numbers, strict=True):
        arrays = contiguous(w), contiguous(x), b, None, y
        _product("forward", arrays, _limits(*lh), each, (first, whole))
        first += each[4]
    return y


def conv2d_chained(x, other, ws, bs, bounds, options):
    """y = conv2d_fused(…, w, b, None, *bounds, *options) of x, of that and so on"""
    *before, last = zip(ws, bs, bounds, options, strict=True)
    for w, b, limits, each in before:
        x = conv2d_fused(x, w, b, None, *limits, *each)
    w, b, limits, each = last
    return conv2d_fused(x, w, b, other, *limits, *each)


def conv2d_pooled(x, w, b, bounds, options, ceil):
    """y = the greatest of each 2 x 2 of clamp(w * x + b, *bounds): one kernel after the other"""
    y = conv2d_fused(x, w, b, None, *bounds, *options)
    return max_pool2d(y, (2, 2), (2, 2), (0, 0), (1, 1), ceil, False)[0]


def conv2d_backward(x, dy, w, dw, db, other, stride, padding, dilation, groups, want_dx):
    """The gradients of conv2d: dw and db (or None) are added to, dx is new; other: added to dx"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    numbers = _numbers(x, w, dy, stride, padding, dilation, groups)
    if dw is not None:
        _filter(x, dy, dw, numbers)
    _bias(dy, db)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _data(dy, w, None, dx, numbers)
    return dx if other is None else add([dx, other])


def conv_transpose2d(x, w, b, stride, padding, output_padding, dilation, groups):
    """y whose conv2d has the gradient x        w (c, k/groups, p, q), b (k,) or None"""
    x, w = contiguous(x), contiguous(w)
    n, _, *size = x.shape
    _, k, *window = w.shape
    out = [
        (size[i] - 1) * stride[i]
        - 2 * padding[i]
        + dilation[i] * (window[i] - 1)
        + output_padding[i]
        + 1
        for i in (0, 1)
    ]
    y = empty(x, (n, k * groups, *out), x.dtype)
    _data(x, w, b, y, _numbers(y, w, x, stride, padding, dilation, groups))
    return y


def conv_transpose2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """The gradients of conv_transpose2d: dw and db (or None) are added to, dx is new"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    numbers = _numbers(dy, w, x, stride, padding, dilation, groups)
    if dw is not None:
        _filter(dy, x, dw, numbers)
    _bias(dy, db)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _forward(dy, w, None, None, dx, UNBOUNDED, numbers)
    return dx


def _numbers(image, w, result, stride, padding, dilation, groups):
    """The numbers of the convolution of an image (n, c, h, w) by w with a result."""
    n, c, height, width = image.shape
    k, out_h, out_w = result.shape[1:]
    p, q = w.shape[2:]
    return n, c, height, width, k, p, q, out_h, out_w, *stride, *padding, *dilation, groups


def _padded(x, w, stride, padding, dilation, groups):
    """The numbers of conv2d(x, w) with a padding (h, w), or (top, left, bottom, right)."""
    (n, c, *size), (k, _, *window) = x.shape, w.shape
    top, left, bottom, right = padding if len(padding) == 4 else (*padding, *padding)
    out = [
        (size[i] + more - dilation[i] * (window[i] - 1) - 1) // stride[i] + 1
        for i, more in enumerate((top + bottom, left + right))
    ]
    return n, c, *size, k, *window, *out, *stride, top, left, *dilation, groups


def _limits(low, high):
    return -math.inf if low is None else low, math.inf if high is None else high


def _forward(image, w, b, other, result, bounds, numbers):
    """result = clamp(image * w + b + other, *bounds)"""
    if not _product("forward", (w, image, b, other, result), bounds, numbers):
        arrays = image, w, b, other, result
        device.launch("conv", "conv2d", result.size, *arrays, *numbers, *bounds)


def _data(result, w, b, image, numbers):
    """image = the transpose of _forward at a result, + b"""
    if not _product("data", (w, result, b, None, image), UNBOUNDED, numbers):
        device.launch("conv", "conv2d_data", image.size, result, w, b, image, *numbers)


def _filter(image, result, dw, numbers):
    """dw += the gradient with respect to w at the result's gradient"""
    if not _product("filter", (result, image, None, dw, dw), UNBOUNDED, numbers):
        device.launch_blocks("conv", "conv2d_filter", dw.size, image, result, dw, *numbers)


def _product(direction, arrays, bounds, numbers, place=None):
    """By conv_product.cu, in parts that are joined; False where a thread an element serves.

    place: the first of y's channels that are written and the number of all, None for all of them
    """
    made = _made(direction, few_channels, place, *numbers)
    if made is None:
        return False
    kind, record, size, sizes, joined = made
    (rows, columns), parts, blocks = plan(*sizes)
    a, image, b, other, y = arrays
    if kind == "points" and int(image.gpudata or 0) % 16:
        kind = "pixels"  # which takes values one at a time
    kernel = f"conv2d_{kind}_{rows}x{columns}"
    if parts == 1:
        arguments = *arrays, record, 1, *bounds
    else:
        record = _made(direction, few_channels, None, *numbers)[1]
        target = empty(y, (parts, size), y.dtype)
        arguments = a, image, None, None, target, record, parts, *UNBOUNDED
    device.launch_blocks("conv_product", kernel, blocks, *arguments)
    if parts > 1:
        join(target, b, other, y, *joined, *bounds)
    return True


@functools.lru_cache(4096)
def _made(direction, few, place, *numbers):
    """The kind of a product, its record, the size of y, the sizes for plan and those for join."""
    n, c, h, w, k, p, q, oh, ow, *pairs, groups = numbers
    cg, kg = c // groups, k // groups
    if (cg if direction == "data" else kg) < few or p + q >= 63:
        return None
    fields = _FIELDS[direction](n, c, h, w, k, p, q, oh, ow, *pairs, groups, cg, kg)
    rows, columns, depth = fields["rows"], fields["columns"], fields["depth"]
    inner, (first, whole) = fields["y_inner"], place or (0, groups * rows)
    fields |= {"groups": groups, "size": groups * rows * columns, "y_first": first * inner}
    if direction != "filter":
        fields["y_outer"] = whole * inner
    steps = ("y_row", "y_group", "y_inner", "y_outer", "y_first", "columns")
    fields["y_fours"] = int(not any(fields[step] % 4 for step in steps))
    one = p == q == 1 and pairs[:4] == [1, 1, 0, 0]  # a point moves nothing
    kind = "taps" if direction == "filter" else "points" if one and h * w % 4 == 0 else "pixels"
    record = source.record("conv_product", "Convolution", **fields)
    joined = groups * rows, inner, first * inner, whole * inner
    return kind, record, fields["size"], (rows, columns, depth, groups), joined


def _forward_fields(n, c, h, w, k, p, q, oh, ow, sh, sw, ph, pw, dh, dw, groups, cg, kg):
    """y (kg, n oh ow) = filter (kg, cg p q) image (cg p q, n oh ow)"""
    plane, out, depth = h * w, oh * ow, cg * p * q
    return dict(
        rows=kg, columns=n * out, depth=depth,
        a_group=kg * depth, a_row=depth, a_inner=depth, a_outer=0, a_step=1,
        a_order=order(1, depth, depth, kg),
        image_group=cg * plane, h=h, w=w, stride_h=1, stride_w=1,
        p_h=oh, p_w=ow, p_outer=c * plane,
        p_step_h=sh, p_start_h=-ph, p_step_w=sw, p_start_w=-pw,
        tap_h=p, tap_w=q, tap_outer=plane, tap_step_h=dh, tap_step_w=dw,
        y_group=kg * out, y_row=out, y_inner=out,
    )  # fmt: skip


def _data_fields(n, c, h, w, k, p, q, oh, ow, sh, sw, ph, pw, dh, dw, groups, cg, kg):
    """x (cg, n h w) = filter (cg, kg p q) y (kg p q, n h w)"""
    plane, out, window = h * w, oh * ow, p * q
    return dict(
        rows=cg, columns=n * plane, depth=kg * window,
        a_group=kg * cg * window, a_row=window, a_inner=window, a_outer=cg * window, a_step=1,
        a_order=order(cg * window, window, kg * window, cg) if window == 1 else ANY,
        image_group=kg * out, h=oh, w=ow, stride_h=sh, stride_w=sw,
        p_h=h, p_w=w, p_outer=k * out,
        p_step_h=1, p_start_h=ph, p_step_w=1, p_start_w=pw,
        tap_h=p, tap_w=q, tap_outer=out, tap_step_h=-dh, tap_step_w=-dw,
        y_group=cg * plane, y_row=plane, y_inner=plane,
    )  # fmt: skip


def _filter_fields(n, c, h, w, k, p, q, oh, ow, sh, sw, ph, pw, dh, dw, groups, cg, kg):
    """dw (kg, cg p q) = dy (kg, n oh ow) image (n oh ow, cg p q)"""
    plane, out, columns = h * w, oh * ow, cg * p * q
    return dict(
        rows=kg, columns=columns, depth=n * out,
        a_group=kg * out, a_row=out, a_inner=out, a_outer=k * out, a_step=1,
        a_order=order(1, out, out, kg),
        image_group=cg * plane, h=h, w=w, stride_h=1, stride_w=1,
        p_h=oh, p_w=ow, p_outer=c * plane,
        p_step_h=sh, p_start_h=-ph, p_step_w=sw, p_start_w=-pw,
        tap_h=p, tap_w=q, tap_outer=plane, tap_step_h=dh, tap_step_w=dw,
        y_group=kg * columns, y_row=columns, y_inner=columns, y_outer=0,
    )  # fmt: skip


_FIELDS = {"forward": _forward_fields, "data": _data_fields, "filter": _filter_fields}


def _bias(dy, db):
    """db += Σ dy, in parts of the images where there are few channels"""
    if db is None:
        return
    n, k, height, width = dy.shape
    count = max(1, min(n, _BLOCKS // max(k, 1)))
    parts = empty(dy, (count, k), dy.dtype)
    sizes = n, k, height * width, count
    device.launch_blocks("conv", "conv2d_bias", k * count, dy, parts, *sizes)
    join(parts, None, db, db, k, 1, 0, k)
