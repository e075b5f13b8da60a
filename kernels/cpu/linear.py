"""y = x Wᵀ + b: NumPy's own matrix product (BLAS) serves here."""

from flambeau.kernels.reference.linear import linear, linear_backward

__all__ = ["linear", "linear_backward"]
