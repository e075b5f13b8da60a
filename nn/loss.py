"""Losses: how far an output is from its target, as one number, and the gradient of that."""

import math

import numpy as np

from flambeau import kernels
from flambeau.nn.module import Module


class Loss:
    """Abstract: `forward(output, target) -> float`, `backward(output, target) -> grad`.

    Calling a loss is `forward`; `backward` may be called without it. reduction: "mean", "sum" or
    "none", where `forward` gives the array of all losses and `backward` the gradient of their sum.
    Sums are taken in a fixed order, the same bits from run to run. Source: Torch7's nn.Criterion.
    """

    __new__, __repr__, need = Module.__new__, Module.__repr__, Module.need

    def forward(self, output, target):
        """The loss as a Python float."""
        raise TypeError(f"{type(self).__name__} does not define forward(output, target)")

    def backward(self, output, target):
        """The gradient of the loss by the output."""
        raise TypeError(f"{type(self).__name__} does not define backward(output, target)")

    def __call__(self, output, target):
        return self.forward(output, target)

    def reduced(self, total, count):
        """The sum, or the mean: NaN when nothing counts, as in PyTorch."""
        return total * self.scale(count)

    def scale(self, count):
        """What the sum is multiplied by."""
        if self.reduction in ("sum", "none"):
            return 1.0
        return 1 / count if count else math.nan


class CrossEntropyLoss(Loss):
    """loss = −Σ share · log softmax(output) / Σ weight[target]

    output (n, c, *s), target (n, *s) integers from 0 -> float, output's shape

    weight: (c,) or None, how much each class counts. ignore_index: places with this target count
    nothing; where no place counts, the mean is NaN. reduction "none": `forward` gives the array of
    the places' losses, (n, *s), and `backward` the gradient of their sum. label_smoothing e: the
    share of the target's class is 1 − e, and e / c is spread over all classes, each times its
    weight.
    Source: Torch7's nn.CrossEntropyCriterion; Szegedy et al. 2016 for the smoothing.
    Raises ValueError for targets out of range, naming the first.

    >>> round(CrossEntropyLoss()(np.zeros((1, 4), "f4"), np.array([2])), 4)
    1.3863
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
        self.weight, self.ignore_index = _weights(self, weight), ignore_index
        self.reduction = checked_reduction(self, reduction)
        self.label_smoothing = float(label_smoothing)
        self.need(0 <= self.label_smoothing <= 1, "label_smoothing must be from 0 to 1")

    def forward(self, output, target):
        output, target, weight, _ = _classes(self, output, target)
        arrays, options = (output, target, weight), (self.ignore_index, self.label_smoothing)
        if self.reduction == "none":
            return kernels.of(output).cross_entropy_losses(*arrays, *options)
        return self.reduced(*kernels.of(output).cross_entropy(*arrays, *options))

    def backward(self, output, target):
        output, target, weight, count = _classes(self, output, target)
        options = self.ignore_index, self.label_smoothing, self.scale(count)
        return kernels.of(output).cross_entropy_backward(output, target, weight, *options)


class NLLLoss(Loss):
    """loss = −Σ weight[target] · output[target] / Σ weight[target]

    output (n, c, *s) log-probabilities, target (n, *s) integers from 0 -> float, output's shape

    weight, ignore_index, reduction: as in CrossEntropyLoss.
    Source: Torch7's nn.ClassNLLCriterion and nn.SpatialClassNLLCriterion.
    Raises ValueError for targets out of range, naming the first.

    >>> NLLLoss()(np.array([[-1.0, -2.0]]), np.array([1]))
    2.0
    """

    def __init__(self, weight=None, ignore_index=-100, reduction="mean"):
        self.weight, self.ignore_index = _weights(self, weight), ignore_index
        self.reduction = checked_reduction(self, reduction)

    def forward(self, output, target):
        output, target, weight, _ = _classes(self, output, target)
        arrays = output, target, weight, self.ignore_index
        if self.reduction == "none":
            return kernels.of(output).nll_losses(*arrays)
        return self.reduced(*kernels.of(output).nll_loss(*arrays))

    def backward(self, output, target):
        output, target, weight, count = _classes(self, output, target)
        options = self.ignore_index, self.scale(count)
        return kernels.of(output).nll_loss_backward(output, target, weight, *options)


class MSELoss(Loss):
    """loss = Σ (output − target)² / number of elements

    output (*s), target (*s) -> float, (*s). reduction "none": `forward` gives the array of all
    squares, (*s), and `backward` the gradient of their sum.
    Source: Torch7's nn.MSECriterion.

    >>> MSELoss()(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    2.0
    """

    def __init__(self, reduction="mean"):
        self.reduction = checked_reduction(self, reduction)

    def forward(self, output, target):
        output, target = alike(self, output, target)
        k = kernels.of(output)
        if self.reduction == "none":
            return k.pointwise_losses(output, target, "mse", 0.0)
        return self.reduced(k.mse_loss(output, target), output.size)

    def backward(self, output, target):
        output, target = alike(self, output, target)
        scale = self.scale(output.size)
        return kernels.of(output).mse_loss_backward(output, target, scale)


def alike(loss, output, target):
    """Both as arrays of one shape, dtype and device."""
    output, target = kernels.asarray(output), kernels.asarray(target)
    loss.need(output.dtype.kind == "f", "output must hold floats", output=output)
    shape = tuple(output.shape)
    loss.need(tuple(target.shape) == shape, f"target must be {shape}", target=target)
    if target.dtype != output.dtype:
        target = kernels.of(target).cast(target, output.dtype)
    return output, kernels.to(target, kernels.device(output))


def checked_reduction(loss, reduction, *more):
    """The reduction, after a check that it is "mean", "sum", "none" or one more."""
    names = "mean", "sum", "none", *more
    must = "reduction must be " + " or ".join(f'"{name}"' for name in names)
    loss.need(reduction in names, must, reduction=reduction)
    return reduction


def _weights(loss, weight):
    """Weights of the classes as an ndarray, or None."""
    if weight is None:
        return None
    weight = kernels.asarray(weight)
    weight = kernels.of(weight).numpy(weight)
    loss.need(weight.ndim == 1, "weight must be (c,)", weight=weight)
    return weight


def _classes(loss, output, target):
    """Output, target and weight checked and on one device, and Σ weight[target].

    Targets are int64 for the kernels. The check is done on the host, before any kernel.
    """
    output, target = kernels.asarray(output), kernels.asarray(target)
    loss.need(output.ndim >= 2, "output must be (n, c, *)", output=output)
    loss.need(output.dtype.kind == "f", "output must hold floats", output=output)
    n, c, *places = output.shape
    loss.need(target.dtype.kind in "iu", "target must hold integers", target=target)
    if tuple(target.shape) != (n, *places):
        loss.need(False, f"target must be {(n, *places)}", target=target)
    host = kernels.of(target).numpy(target).astype(np.int64, copy=False)
    if loss.weight is None and not 0 <= loss.ignore_index < c and _all_classes(host, c):
        return output, kernels.of(output).array(output, host), None, host.size
    kept = host != loss.ignore_index
    _check_range(loss, host, kept, c)
    weight, count = None, int(kept.sum())
    if loss.weight is not None:
        loss.need(
            len(loss.weight) == c, f"output must be (n, {len(loss.weight)}, *)", output=output
        )
        weight = loss.weight.astype(output.dtype)
        count = float(weight[host[kept]].sum(dtype=np.float64))
        weight = kernels.of(output).array(output, weight)
    return output, kernels.of(output).array(output, host), weight, count


def _all_classes(target, c):
    """True when every target is from 0 to c − 1: below c as an unsigned number."""
    return target.size > 0 and int(np.maximum.reduce(target.view(np.uint64), axis=None)) < c


def _check_range(loss, target, kept, c):
    """Raise ValueError at the first target that is no class."""
    wrong = kept & ((target < 0) | (target >= c))
    if not wrong.any():
        return
    place = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
    index = ", ".join(map(str, place))
    raise ValueError(
        f"{loss!r}: targets must be from 0 to {c - 1}, or {loss.ignore_index} to be ignored "
        f"— got target[{index}] = {target[place]}; classes are counted from 0"
    )
