"""What the layers on images check alike."""

from numbers import Integral

from flambeau.kernels.reference.pooling import windows

WHAT = {1: "sequence", 2: "image", 3: "volume"}


def pair(module, name, value, least):
    """An option given as one number or as (down, across): as a pair, each `least` or more."""
    return numbers(module, name, value, least, 2)


def numbers(module, name, value, least, axes):
    """An option given as one number or as one for each axis: as a tuple, each `least` or more."""
    each = value if isinstance(value, (tuple, list)) else (value,) * axes
    fits = len(each) == axes and all(isinstance(v, Integral) and v >= least for v in each)
    many = {1: "a tuple of one", 2: "a pair", 3: "three"}[axes]
    module.need(fits, f"{name} must be an integer from {least} up, or {many}", **{name: value})
    return tuple(int(v) for v in each)


def need_images(module, x, channels=None, axes=2):
    """x must be a batch of images, with that many channels if a number is given.

    axes: 1 for sequences (n, c, w), 3 for volumes (n, c, d, h, w).
    """
    shape = getattr(x, "shape", ())
    if len(shape) != axes + 2 or channels not in (None, shape[1]):
        advice = f"; give one {WHAT[axes]} as x[None]" if len(shape) == axes + 1 else ""
        sides = ", ".join("dhw"[-axes:])
        module.need(False, f"x must be (n, {channels or 'c'}, {sides}){advice}", x=x)


def need_window(module, x, kernel, stride, padding, dilation, ceil):
    """x must be a batch of images with room for a window at least, and not too large to index."""
    need_images(module, x)
    counts = window_shape(x, kernel, stride, padding, dilation, ceil)[2:]
    fits = min(x.shape[2:]) > 0 and min(counts) > 0
    module.need(fits, f"x must be (n, c, h, w) with room for a window of {kernel}", x=x)
    module.need(x.shape[2] * x.shape[3] < 2**31, "a plane of x must have less than 2³¹ values", x=x)


def window_shape(x, kernel, stride, padding, dilation, ceil):
    """The shape of y, one value for each window of x (n, c, h, w)."""
    options = zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)
    return *x.shape[:2], *(windows(*axis, ceil) for axis in options)
