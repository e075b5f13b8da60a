"""Every module of the table against PyTorch's of the same constructor call."""

import numpy as np
import pytest

from flambeau import kernels

from cases import every
from test_modules import close, flat, gradient, spread

ROWS = [
    pytest.param(case, id=f"{family}-{case.text}-{i}")
    for i, (family, case) in enumerate(every())
    if case.torch is not None
]
pytestmark = pytest.mark.torch


def torch_module(case, module):
    """PyTorch's module with our weights, in float64."""
    import torch

    theirs = eval(case.torch or case.text, vars(torch.nn)).double()
    state = {name: torch.from_numpy(np.array(v)) for name, v in module.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


@pytest.mark.parametrize("package", ["reference", "cpu"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("case", ROWS)
def test_outputs_and_gradients_are_those_of_pytorch(case, training, package):
    import torch

    with kernels.use(package):
        module = case.make().astype("f8").train(training)
        theirs = torch_module(case, module).train(training)
        x = case.draw("f8")
        y = module(x)
        dy = gradient(y)
        dx = module.backward(x, dy)
    tensors = [torch.from_numpy(a.copy()).requires_grad_() for a in flat(x)]
    out = theirs(*tensors)
    out.backward(torch.from_numpy(dy))
    close(flat(y), [out.detach().numpy()], 1e-10)
    close(flat(dx), [t.grad.numpy() for t in tensors], 1e-10)
    grads = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    close(module.gradients(), [grads[name] for name, _ in module.named_parameters()], 1e-10)
    buffers = {name: b.numpy() for name, b in theirs.named_buffers()}
    for name, value in module.named_buffers():
        close([np.asarray(value)], [np.asarray(buffers[name])], 1e-10)


def test_the_table_has_rows():
    assert len(ROWS) > 1
    assert spread(len, ("ab", ("c",))) == (2, (1,))
