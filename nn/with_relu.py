"""Layers that compute the ReLU beside them too: in training containers let them."""

from flambeau import kernels
from flambeau.nn.module import Module


class WithReLU(Module):
    """Abstract: a layer that can compute the ReLU behind it, or before it, in the same step.

    A subclass defines `forward_relu`; what that gave comes back to `backward_relu`.
    """

    def forward_relu(self, x):
        """The layer and the ReLU of x."""
        raise TypeError(f"{type(self).__name__} does not define forward_relu(x)")

    def backward_relu(self, x, y, dy):
        """dx after forward_relu, which gave y."""
        self.need_gradient(dy, y.shape)
        return self.backward(x, kernels.of(dy).relu_backward(y, dy))
