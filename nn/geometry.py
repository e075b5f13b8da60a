"""What the layers on images check alike."""

from numbers import Integral

from flambeau.kernels.reference.pooling import windows


def pair(module, name, value, least):
    """An option given as one number or as (down, across): as a pair, each `least` or more."""
    both = value if isinstance(value, (tuple, list)) else (value, value)
    fits = len(both) == 2 and all(isinstance(v, Integral) and v >= least for v in both)
    module.need(fits, f"{name} must be an integer from {least} up, or a pair", **{name: value})
    return int(both[0]), int(both[1])


def need_images(module, x, channels=None):
    """x must be a batch of images, with that many channels if a number is given."""
    shape = getattr(x, "shape", ())
    if len(shape) != 4 or channels not in (None, shape[1]):
        advice = "; give one image as x[None]" if len(shape) == 3 else ""
        module.need(False, f"x must be (n, {channels or 'c'}, h, w){advice}", x=x)


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
