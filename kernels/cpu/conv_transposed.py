"""Transposed convolutions, which are the gradients of images, in channels-last memory."""

import itertools

import numpy as np

from flambeau.kernels.cpu import conv_algorithm, conv_last, memory, native, weights, winograd
from flambeau.kernels.cpu.conv_patches import phases
from flambeau.kernels.cpu.layout import assign, channels_last


def takes(x, w, groups):
    """True when transposed() serves: x (n, k, h, w), w (k, c/groups, p, q)."""
    return x.dtype == np.float32 and (groups == 1 or w.shape[1] >= 16)


def transposed(x, w, b, other, size, stride, padding, dilation, groups):
    """The transposed convolution: an image of the given size, channels-last; + other at stride 1.

    For the rows and columns of the result that are read by the same taps it is a convolution at
    stride 1.
    """
    n, k, kernel = len(x), groups * w.shape[1], w.shape[2:]
    if stride == dilation == (1, 1) and max(padding) <= 2:
        turned = k, len(w), *kernel
        name = conv_algorithm.tiles(turned, n, size, stride, dilation, groups)
        if name != "direct":
            m, pads = int(name[-1]), (2 - padding[0], 2 - padding[1])
            return winograd.convolve(x, w, True, b, other, None, k, m, size, pads)
    other = None if other is None else channels_last(other)
    y = memory.empty((n, *size, k), x.dtype)
    down, across = (
        list(phases(size[i], kernel[i], stride[i], padding[i], dilation[i])) for i in (0, 1)
    )
    pairs = list(itertools.product(down, across))
    taps = phases_of(w, groups, [(rows[2], columns[2]) for rows, columns in pairs])
    for (rows, columns), (packed, (p, q)) in zip(pairs, taps, strict=True):
        (i, height, _, top, step_h), (j, width, _, left, step_w) = rows, columns
        to = y[:, i :: stride[0], j :: stride[1]]
        if packed is None or x.size == 0:
            assign(to.transpose(0, 3, 1, 2), None if b is None else b[:, None, None])
            continue
        # the taps in reverse: the last reads first
        start = -(top + (p - 1) * step_h), -(left + (q - 1) * step_w)
        options = (p, q), k, (height, width), (1, 1), start, (-step_h, -step_w), groups
        into(to, x, packed, b, other, options)
    return y.transpose(0, 3, 1, 2)


def phases_of(w, groups, slices):
    """The taps of each pair of slices packed in reverse, None for none; and how many they are."""
    counts = [
        tuple([len(range(n)[s]) for n, s in zip(w.shape[2:], two, strict=True)]) for two in slices
    ]
    some = [i for i, (p, q) in enumerate(counts) if p * q]
    if [counts[i] for i in some] == [w.shape[2:]]:
        packed = [weights.panels(w, groups, True)]
    else:
        parts = [tuple([(s.start, s.stop, s.step) for s in slices[i]]) for i in some]
        packed = weights.parts(w, groups, tuple(parts))
    packed = dict(zip(some, packed, strict=True))
    return [(packed.get(i), count) for i, count in enumerate(counts)]


def into(y, x, packed, b, other, options):
    """y = the convolution + other        y (n, h, w, k): all pixels of an image, or some"""
    x, strides = conv_last.steps(x)
    places = None if y.flags.c_contiguous else tuple(s // y.itemsize for s in y.strides[:3])
    options = *options, native.lib.threads()
    step = conv_last.prepared("conv_last", None, places, x.shape, strides, *options)
    step.into(y, x, packed, b, other)
