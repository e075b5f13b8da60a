"""Steps of optimisers, in place."""

import math

import numpy as np


def sgd_step(ws, dws, vs, lr, momentum, dampening, weight_decay, nesterov, first):
    """d = dw + weight_decay · w, v = momentum · v + (1 − dampening) d, w −= lr · v

    for each of the arrays in the lists. At the first step v = d. With nesterov:
    w −= lr (d + momentum · v). vs None: w −= lr · d.
    Source: Sutskever et al. 2013, in PyTorch's form.
    """
    for w, dw, v in zip(ws, dws, vs or [None] * len(ws), strict=True):
        d = dw + w * weight_decay if weight_decay else dw
        if v is not None:
            if first:
                v[...] = d
            else:
                v *= momentum
                v += d * (1 - dampening)
            d = d + v * momentum if nesterov else v
        w -= d * lr


def adam_step(ws, dws, ms, vs, step, lr, beta1, beta2, eps, weight_decay, decoupled):
    """m, v = running means of dw, dw²; w −= lr · m̂ / (√v̂ + eps)        step counts from 1

    for each of the arrays in the lists. m̂ = m / (1 − beta1^step), v̂ = v / (1 − beta2^step).
    Decay: w −= lr · weight_decay · w when decoupled (AdamW), else dw + weight_decay · w is taken
    for dw. Source: Kingma and Ba 2015, Loshchilov and Hutter 2019.
    """
    rate, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    for w, dw, m, v in zip(ws, dws, ms, vs, strict=True):
        d = dw if decoupled or not weight_decay else dw + w * weight_decay
        if decoupled:
            w *= 1 - lr * weight_decay
        m += (d - m) * (1 - beta1)
        v += (d * d - v) * (1 - beta2)
        w -= m * rate / (np.sqrt(v) / root + eps)
