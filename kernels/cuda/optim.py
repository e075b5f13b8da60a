"""Steps of optimisers, in place."""

import math

from flambeau.kernels.cuda import device


def sgd_step(ws, dws, vs, lr, momentum, dampening, weight_decay, nesterov, first):
    """v = momentum v + (1 - dampening) dw, w -= lr v        vs may be None without momentum"""
    options = lr, momentum, 1 - dampening, weight_decay, int(nesterov), int(first)
    for w, dw, v in zip(ws, dws, vs or [None] * len(ws), strict=True):
        device.launch("optim", "sgd_step", w.size, w, dw, v, w.size, *options)


def adam_step(ws, dws, ms, vs, step, lr, beta1, beta2, eps, weight_decay, decoupled):
    """m, v = running means of dw and dw², w -= lr m̂ / (√v̂ + eps)        step counts from 1"""
    rate = lr / (1 - beta1**step)
    root = math.sqrt(1 - beta2**step)
    decay = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    options = 1 - beta1, 1 - beta2, rate, root, eps, *decay
    for w, dw, m, v in zip(ws, dws, ms, vs, strict=True):
        device.launch("optim", "adam_step", w.size, w, dw, m, v, w.size, *options)
