"""Losses of each output by itself: absolute and squared differences, cross entropies."""

from flambeau import kernels
from flambeau.nn.loss import Loss, alike, checked_reduction


class PointwiseLoss(Loss):
    """Abstract: the mean or the sum of a loss of each element; output (*s), target (*s).

    reduction "none": `forward` gives the array of all losses, (*s), and `backward` the gradient
    of their sum. A subclass names its `kind` of kernels/reference/pointwise_loss.py.
    """

    kind, option = "", 0.0

    def forward(self, output, target):
        output, target = alike(self, output, target)
        k = kernels.of(output)
        if self.reduction == "none":
            return k.pointwise_losses(output, target, self.kind, self.option)
        total = k.pointwise_loss(output, target, self.kind, self.option)
        return self.reduced(total, self.count(output))

    def backward(self, output, target):
        output, target = alike(self, output, target)
        scale = self.scale(self.count(output))
        arrays, options = (output, target), (self.kind, self.option)
        return kernels.of(output).pointwise_loss_backward(*arrays, *options, scale)

    def count(self, output):
        """What a mean is divided by."""
        return output.size


class L1Loss(PointwiseLoss):
    """loss = Σ |output − target| / number of elements

    output (*s), target (*s) -> float        Source: Torch7's nn.AbsCriterion.

    >>> import numpy as np
    >>> L1Loss()(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    1.0
    """

    kind = "l1"

    def __init__(self, reduction="mean"):
        self.reduction = checked_reduction(self, reduction)


class SmoothL1Loss(PointwiseLoss):
    """loss = mean of d² / (2 beta) where |d| < beta, else |d| − beta / 2        d = output − target

    output (*s), target (*s) -> float        Source: Girshick 2015; Torch7's nn.SmoothL1Criterion.

    >>> import numpy as np
    >>> SmoothL1Loss()(np.array([0.0, 0.0]), np.array([1.0, 4.0]))
    2.0
    """

    kind = "smooth_l1"

    def __init__(self, reduction="mean", beta=1.0):
        self.reduction, self.option = checked_reduction(self, reduction), float(beta)
        self.need(self.option >= 0, "beta must be 0 or more", beta=beta)


class HuberLoss(PointwiseLoss):
    """loss = mean of d² / 2 where |d| < delta, else delta (|d| − delta / 2)    d = output − target

    output (*s), target (*s) -> float        Source: Huber 1964.

    >>> import numpy as np
    >>> HuberLoss(delta=2.0)(np.array([0.0, 0.0]), np.array([1.0, 4.0]))
    3.25
    """

    kind = "huber"

    def __init__(self, reduction="mean", delta=1.0):
        self.reduction, self.option = checked_reduction(self, reduction), float(delta)
        self.need(self.option > 0, "delta must be positive", delta=delta)


class BCELoss(PointwiseLoss):
    """loss = mean of −target ln output − (1 − target) ln(1 − output)

    output (*s) from 0 to 1, target (*s) -> float. Logarithms are held above −100, so that the loss
    is finite.        Source: Torch7's nn.BCECriterion.

    >>> import numpy as np
    >>> round(BCELoss()(np.array([0.5, 0.5]), np.array([1.0, 0.0])), 4)
    0.6931
    """

    kind = "bce"

    def __init__(self, reduction="mean"):
        self.reduction = checked_reduction(self, reduction)


class BCEWithLogitsLoss(PointwiseLoss):
    """loss = BCELoss of 1 / (1 + e^−output), without overflow for any output

    output (*s), target (*s) from 0 to 1 -> float        Source: PyTorch's BCEWithLogitsLoss.

    >>> import numpy as np
    >>> round(BCEWithLogitsLoss()(np.array([0.0, 1e4]), np.array([1.0, 1.0])), 4)
    0.3466
    """

    kind = "bce_logits"

    def __init__(self, reduction="mean"):
        self.reduction = checked_reduction(self, reduction)


class KLDivLoss(PointwiseLoss):
    """loss = mean of target (ln target − output), 0 where target is 0

    output (n, *s) log-probabilities, target (n, *s) probabilities, or their logarithms with
    log_target -> float. reduction "batchmean" divides the sum by n: the divergence proper.
    Source: Torch7's nn.DistKLDivCriterion.

    >>> import numpy as np
    >>> half = np.log(np.array([[0.5, 0.5]]))
    >>> round(KLDivLoss("batchmean")(half, np.array([[1.0, 0.0]])), 4)
    0.6931
    """

    def __init__(self, reduction="mean", log_target=False):
        self.reduction = checked_reduction(self, reduction, "batchmean")
        self.kind = "kl_log" if log_target else "kl"

    def count(self, output):
        if self.reduction != "batchmean":
            return output.size
        self.need(output.ndim > 0, "output must be (n, *)", output=output)
        return output.shape[0]
