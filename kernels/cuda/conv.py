"""Two-dimensional convolution, plain and transposed."""

import math
from types import SimpleNamespace

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.activation import clamp
from flambeau.kernels.cuda.arrays import concatenate, contiguous, empty
from flambeau.kernels.cuda.elementwise import add
from flambeau.kernels.cuda.padding import pad2d

# Groups of so few channels take a thread an element: tiles of a product would be mostly empty.
few_channels = 8

_TILE = 64  # of product.h
_BLOCKS = 256  # products of fewer tiles are cut into parts of their depth
_PART = 128  # the least depth of a part


def conv2d(x, w, b, stride, padding, dilation, groups):
    """y = x * w + b        x (n, c, h, w), w (k, c/groups, p, q), b (k,) or None"""
    x, w = contiguous(x), contiguous(w)
    n, _, *size = x.shape
    k, _, *window = w.shape
    out = [
        (size[i] + 2 * padding[i] - dilation[i] * (window[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    y = empty(x, (n, k, *out), x.dtype)
    _forward(x, w, b, y, _geometry(x, w, y, stride, padding, dilation, groups))
    return y


def conv2d_fused(x, w, b, other, low, high, stride, padding, dilation, groups):
    """y = clamp(conv2d(x, w, b) + other, low, high)        other, low, high may be None"""
    if len(padding) == 4:
        top, left, bottom, right = padding
        x, padding = pad2d(x, (left, right, top, bottom)), (0, 0)
    y = conv2d(x, w, b, stride, padding, dilation, groups)
    y = y if other is None else add([y, other])
    if low is None and high is None:
        return y
    return clamp(y, -math.inf if low is None else low, math.inf if high is None else high)


def conv2d_joined(xs, ws, bs, bounds, options):
    """y = conv2d_fused(x, w, b, None, *bounds, *options) of each, one after another as channels"""
    parts = zip(xs, ws, bs, bounds, options, strict=True)
    return concatenate([conv2d_fused(x, w, b, None, *lh, *o) for x, w, b, lh, o in parts], 1)


def conv2d_chained(x, w, b, bounds, taps, last_b, last_bounds, options):
    """y = clamp(taps * clamp(w * x + b, *bounds) + last_b, *last_bounds)"""
    between = conv2d_fused(x, w, b, None, *bounds, (1, 1), (0, 0), (1, 1), 1)
    return conv2d_fused(between, taps, last_b, None, *last_bounds, *options, len(taps))


def conv2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """The gradients of conv2d: dw and db (or None) are added to, dx is new"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    geometry = _geometry(x, w, dy, stride, padding, dilation, groups)
    if dw is not None:
        _filter(x, dy, dw, geometry)
    _bias(dy, db)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _data(dy, w, None, dx, geometry)
    return dx


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
    _data(x, w, b, y, _geometry(y, w, x, stride, padding, dilation, groups))
    return y


def conv_transpose2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """The gradients of conv_transpose2d: dw and db (or None) are added to, dx is new"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    geometry = _geometry(dy, w, x, stride, padding, dilation, groups)
    if dw is not None:
        _filter(dy, x, dw, geometry)
    _bias(dy, db)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _forward(dy, w, None, dx, geometry)
    return dx


def _geometry(image, w, result, stride, padding, dilation, groups):
    """The numbers of the convolution of an image (n, c, h, w) by w with a result."""
    n, c, height, width = image.shape
    k, out_h, out_w = result.shape[1:]
    p, q = w.shape[2:]
    pairs = *stride, *padding, *dilation
    return SimpleNamespace(
        numbers=(n, c, height, width, k, p, q, out_h, out_w, *pairs, groups),
        image=(n, height, width),
        result=(n, out_h, out_w),
        window=(p, q),
        c=c,
        k=k,
        cg=c // groups,
        kg=k // groups,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def _forward(image, w, b, result, g):
    """result = image * w + b"""
    if g.kg < few_channels:
        device.launch("conv", "conv2d", result.size, image, w, b, result, *g.numbers)
        return
    (n, height, width), (_, out_h, out_w), (p, q) = g.image, g.result, g.window
    plane, out, depth = height * width, out_h * out_w, g.cg * p * q
    _product(
        (w, image, b, result),
        (g.groups, g.kg, n * out, depth),
        (g.kg * depth, depth, depth, 0),
        (g.cg * plane, height, width, 1, 1),
        (out_h, out_w, g.c * plane, g.stride[0], -g.padding[0], g.stride[1], -g.padding[1]),
        (p, q, plane, g.dilation[0], 0, g.dilation[1], 0),
        (g.kg * out, out, out, g.k * out),
    )


def _data(result, w, b, image, g):
    """image = the transpose of _forward at a result, + b"""
    if g.cg < few_channels:
        device.launch("conv", "conv2d_data", image.size, result, w, b, image, *g.numbers)
        return
    (n, height, width), (_, out_h, out_w), (p, q) = g.image, g.result, g.window
    plane, out, window = height * width, out_h * out_w, p * q
    _product(
        (w, result, b, image),
        (g.groups, g.cg, n * plane, g.kg * window),
        (g.kg * g.cg * window, window, window, g.cg * window),
        (g.kg * out, out_h, out_w, *g.stride),
        (height, width, g.k * out, 1, g.padding[0], 1, g.padding[1]),
        (p, q, out, -g.dilation[0], 0, -g.dilation[1], 0),
        (g.cg * plane, plane, plane, g.c * plane),
    )


def _filter(image, result, dw, g):
    """dw += the gradient with respect to w at the result's gradient"""
    if g.kg < few_channels:
        arrays = image, result, dw
        device.launch_blocks("conv", "conv2d_filter", dw.size, *arrays, *g.numbers)
        return
    (n, height, width), (_, out_h, out_w), (p, q) = g.image, g.result, g.window
    plane, out, columns = height * width, out_h * out_w, g.cg * p * q
    _product(
        (result, image, None, dw),
        (g.groups, g.kg, columns, n * out),
        (g.kg * out, out, out, g.k * out),
        (g.cg * plane, height, width, 1, 1),
        (p, q, plane, g.dilation[0], 0, g.dilation[1], 0),
        (out_h, out_w, g.c * plane, g.stride[0], -g.padding[0], g.stride[1], -g.padding[1]),
        (g.kg * columns, columns, columns, 0),
        add=True,
    )


def _product(arrays, sizes, a, image, columns, depths, y, add=False):
    """y = a gathered image + b, or y += it: conv2d_product, in parts that conv2d_join joins."""
    *inputs, b, output = arrays
    groups, rows, count, depth = sizes
    tiles = groups * -(-rows // _TILE) * -(-count // _TILE)
    parts = max(1, min(_BLOCKS // max(tiles, 1), depth // _PART))
    whole = parts == 1 and not add
    target = output if whole else empty(output, (parts, output.size), output.dtype)
    bias = b if whole else None
    numbers = *a, *image, *columns, *depths, *y, int(add)  # added: a filter, by pixels in depth
    device.launch_blocks(
        "conv",
        "conv2d_product",
        tiles * parts,
        *inputs,
        bias,
        target,
        groups,
        parts,
        output.size,
        rows,
        count,
        depth,
        *numbers,
    )
    if not whole:
        options = output.size, parts, groups * rows, y[2], int(add)
        device.launch("conv", "conv2d_join", output.size, target, b, output, *options)


def _bias(dy, db):
    if db is not None:
        n, k, height, width = dy.shape
        device.launch_blocks("conv", "conv2d_bias", k, dy, db, n, k, height * width)
