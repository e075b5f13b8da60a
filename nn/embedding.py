"""Tables of learned vectors."""

import numpy as np

from flambeau import kernels
from flambeau.nn import init
from flambeau.nn.module import Module


class Embedding(Module):
    """y = weight[x]: the rows of a table with the numbers x

    x (*s), integers from 0 to num_embeddings - 1 -> y (*s, embedding_dim)

    padding_idx: the row that begins as 0 and gets no gradient. max_norm: rows that are looked up
    and whose norm (the norm_type-th root of Σ |w|^norm_type) exceeds it are first scaled down to
    it, in place. scale_grad_by_freq: a row's gradient is divided by how often x holds it.
    The gradient of x is 0. weight (num_embeddings, embedding_dim): normal, mean 0, variance 1.
    Source: PyTorch's Embedding; Torch7's LookupTable.

    >>> Embedding(10, 3)(np.array([[1, 2, 4, 5], [4, 3, 2, 9]])).shape
    (2, 4, 3)
    """

    params = ("weight",)

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        padding_idx=None,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
    ):
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.need(min(num_embeddings, embedding_dim) > 0, "both sizes must be positive")
        self.max_norm, self.norm_type = max_norm, float(norm_type)
        self.scale_grad_by_freq = scale_grad_by_freq
        self.weight = init.normal((num_embeddings, embedding_dim), 1)
        self.padding_idx = padding_idx
        if padding_idx is not None:
            inside = -num_embeddings <= padding_idx < num_embeddings
            self.need(inside, "padding_idx must be a row of the table", padding_idx=padding_idx)
            self.padding_idx = padding_idx % num_embeddings
            self.weight[self.padding_idx] = 0

    def forward(self, x):
        x, values = self._checked(x)
        if self.max_norm is not None:
            self._scale_down(np.unique(values))
        return kernels.of(x).embedding(x, self.weight)

    def backward(self, x, dy):
        self.need_gradient(dy, (*x.shape, self.embedding_dim))
        k = kernels.of(x)
        if self.grad_weight is not None:
            options = self.padding_idx, self.scale_grad_by_freq
            k.embedding_backward(self._checked(x)[0], dy, self.grad_weight, *options)
        return k.zeros(x, x.shape, dy.dtype) if self.want_dx else None

    def _checked(self, x):
        """x as int64, and as an ndarray; ValueError names the first number out of range."""
        integers = getattr(getattr(x, "dtype", None), "kind", None) in ("i", "u")
        self.need(integers, "x must hold integers", x=x)
        k = kernels.of(x)
        values = k.numpy(x)
        wrong = (values < 0) | (values >= self.num_embeddings)
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            must = f"x must hold integers from 0 to {self.num_embeddings - 1}"
            self.need(False, f"{must} — got {values[place]} at x[{', '.join(map(str, place))}]")
        return (x if x.dtype == np.int64 else k.cast(x, np.int64)), values

    def _scale_down(self, rows):
        """Bring the norms of these rows of the table down to max_norm."""
        k = kernels.of(self.weight)
        w = k.numpy(self.weight)
        norms = np.linalg.norm(w[rows], self.norm_type, axis=1)
        rows, norms = rows[norms > self.max_norm], norms[norms > self.max_norm]
        if rows.size:
            w[rows] *= (self.max_norm / (norms + 1e-7))[:, None].astype(w.dtype)
            k.assign(self.weight, k.array(self.weight, w))
