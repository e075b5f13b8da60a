"""Gradients of a graph's values, from those that their consumers sent."""

from flambeau import kernels, nn
from flambeau.nn.container import as_it_is
from flambeau.nn.containers import add_tables


def assembled(value, arrived):
    """The gradient of a value from what its consumers sent: parts put together, zeros elsewhere."""
    whole = [gradient for path, gradient in arrived if not path]
    if not isinstance(value, tuple):
        return (
            add_tables(whole) if whole else kernels.of(value).zeros(value, value.shape, value.dtype)
        )
    if len(whole) < len(arrived) or not whole:
        parts = [
            [(path[1:], g) for path, g in arrived if path and path[0] == i]
            for i in range(len(value))
        ]
        whole.append(tuple(assembled(v, part) for v, part in zip(value, parts, strict=True)))
    return add_tables(whole)


def beside(step, module, x, arrived, wanted):
    """The list with the gradient that came before to the input x of a convolution, if it is just
    one: the convolution adds its own in the same go. Else None.

    arrived: for each step the (path, gradient) that consumers sent; wanted: whether it is of use.
    """
    if not as_it_is(module, nn.Conv2d):
        return None
    ((parent, path),) = step.inputs
    came = arrived[parent]
    if path or not wanted[parent] or len(came) != 1:
        return None
    ((path, gradient),) = came
    return None if path or gradient.shape != x.shape else came
