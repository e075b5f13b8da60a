"""Steps of optimisers, in place: C kernels."""

import math

from flambeau.kernels import reference
from flambeau.kernels.cpu import native


def sgd_step(w, dw, v, lr, momentum, dampening, weight_decay, nesterov, first):
    """v = momentum · v + (1 − dampening) dw, w −= lr · v        v may be None"""
    if not _takes(w, dw, v):
        options = lr, momentum, dampening, weight_decay, nesterov, first
        return reference.sgd_step(w, dw, v, *options)
    options = lr, momentum, 1 - dampening, weight_decay, int(nesterov), int(first)
    native.call("sgd_step", w, dw, v, w.size, *options)


def adam_step(w, dw, m, v, step, lr, beta1, beta2, eps, weight_decay, decoupled):
    """m, v = running means of dw, dw²; w −= lr · m̂ / (√v̂ + eps)        step counts from 1"""
    if not _takes(w, dw, m, v):
        options = step, lr, beta1, beta2, eps, weight_decay, decoupled
        return reference.adam_step(w, dw, m, v, *options)
    rate = lr / (1 - beta1**step)
    root = math.sqrt(1 - beta2**step)
    decay, keep = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    options = 1 - beta1, 1 - beta2, rate, root, eps, decay, keep
    native.call("adam_step", w, dw, m, v, w.size, *options)


def _takes(*arrays):
    """True for arrays of one dtype that C knows, contiguous and writeable: they change in place."""
    here = [a for a in arrays if a is not None]
    return native.takes(*here) and all(a.flags.carray for a in here)
