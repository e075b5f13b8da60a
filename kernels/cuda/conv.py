"""Two-dimensional convolution, plain and transposed."""

from flambeau.kernels.cuda import device
from flambeau.kernels.cuda.arrays import contiguous, empty


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
    _launch("conv2d", (x, w, b, y), x, w, y, (stride, padding, dilation), groups)
    return y


def conv2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """The gradients of conv2d: dw and db (or None) are added to, dx is new"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    options = stride, padding, dilation
    if dw is not None:
        _launch("conv2d_filter", (x, dy, dw), x, w, dy, options, groups)
    _bias(dy, db)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _launch("conv2d_data", (dy, w, None, dx), dx, w, dy, options, groups)
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
    _launch("conv2d_data", (x, w, b, y), y, w, x, (stride, padding, dilation), groups)
    return y


def conv_transpose2d_backward(x, dy, w, dw, db, stride, padding, dilation, groups, want_dx):
    """The gradients of conv_transpose2d: dw and db (or None) are added to, dx is new"""
    x, dy, w = contiguous(x), contiguous(dy), contiguous(w)
    options = stride, padding, dilation
    if dw is not None:
        _launch("conv2d_filter", (dy, x, dw), dy, w, x, options, groups)
    _bias(dy, db)
    if not want_dx:
        return None
    dx = empty(x, x.shape, x.dtype)
    _launch("conv2d", (dy, w, None, dx), dy, w, dx, options, groups)
    return dx


def _launch(kernel, arrays, image, w, result, options, groups):
    """Launch a kernel of the convolution of an image by w with a result."""
    n, c, height, width = image.shape
    k, out_h, out_w = result.shape[1:]
    sizes = n, c, height, width, k, *w.shape[2:], out_h, out_w
    numbers = [value for option in options for value in option]
    output = arrays[-1]
    launch = device.launch_blocks if kernel == "conv2d_filter" else device.launch
    launch("conv", kernel, output.size, *arrays, *sizes, *numbers, groups)


def _bias(dy, db):
    if db is not None:
        n, k, height, width = dy.shape
        device.launch_blocks("conv", "conv2d_bias", k, dy, db, n, k, height * width)
