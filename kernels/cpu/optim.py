"""Steps of optimisers, in place: C kernels, one call for all arrays."""

import math

from flambeau.kernels import reference
from flambeau.kernels.cpu import native


def sgd_step(ws, dws, vs, lr, momentum, dampening, weight_decay, nesterov, first):
    """v = momentum · v + (1 − dampening) dw, w −= lr · v        vs may be None"""
    if not _takes(ws, dws, vs or []):
        options = lr, momentum, dampening, weight_decay, nesterov, first
        return reference.sgd_step(ws, dws, vs, *options)
    options = lr, momentum, 1 - dampening, weight_decay, int(nesterov), int(first)
    native.call("sgd_step", ws, dws, vs, _sizes(ws), len(ws), *options)


def adam_step(ws, dws, ms, vs, step, lr, beta1, beta2, eps, weight_decay, decoupled):
    """m, v = running means of dw, dw²; w −= lr · m̂ / (√v̂ + eps)        step counts from 1"""
    if not _takes(ws, dws, ms, vs):
        options = step, lr, beta1, beta2, eps, weight_decay, decoupled
        return reference.adam_step(ws, dws, ms, vs, *options)
    rate = lr / (1 - beta1**step)
    root = math.sqrt(1 - beta2**step)
    decay, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    options = 1 - beta1, 1 - beta2, rate, root, eps, decay, keep
    native.call("adam_step", ws, dws, ms, vs, _sizes(ws), len(ws), *options)


def _sizes(arrays):
    return tuple([a.size for a in arrays])


def _takes(*lists):
    """True for arrays of one dtype that C knows, contiguous and writeable: they change in place."""
    dtype = lists[0][0].dtype
    for arrays in lists:
        for a in arrays:
            if a.dtype != dtype or not a.flags.carray:
                return False
    return dtype in native.REAL
