"""Functions of one value by their kind, applied to every element: C kernels."""

from flambeau.kernels import reference
from flambeau.kernels.cpu import layout, native
from flambeau.kernels.reference.transfer import KINDS


def transfer(x, kind, a, b):
    """y = the function of each element"""
    if not native.takes(x):
        return reference.transfer(x, kind, a, b)
    (x,) = layout.alike(x)
    y = layout.empty_like(x)
    native.call("transfer", layout.block(x), layout.block(y), KINDS.index(kind), a, b, x.size)
    return y


def transfer_backward(x, dy, kind, a, b):
    """dx = dy · the slope at each element"""
    if not native.takes(x, dy):
        return reference.transfer_backward(x, dy, kind, a, b)
    x, dy = layout.alike(x, dy)
    dx = layout.empty_like(x)
    memory = map(layout.block, (x, dy, dx))
    native.call("transfer_backward", *memory, KINDS.index(kind), a, b, x.size)
    return dx
