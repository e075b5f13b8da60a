"""What the rows of tests/cases cannot say of tables of vectors."""

import numpy as np
import pytest

from flambeau import kernels, nn

from cases.embedding import INDICES
from test_modules import close, flat, gradient, move, put

OPTIONS = [
    {},
    {"padding_idx": 2},
    {"padding_idx": -1, "scale_grad_by_freq": True},
    {"max_norm": 1.5},
    {"max_norm": 1.0, "norm_type": 1.0},
]


@pytest.mark.torch
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_tables_are_those_of_pytorch(options, device):
    import torch

    module = nn.Embedding(7, 4, **options).astype("f8")
    theirs = torch.nn.Embedding(7, 4, **options).double()
    state = module.state_dict()
    theirs.load_state_dict({name: torch.from_numpy(a.copy()) for name, a in state.items()})
    module, x = put(module, device), move(INDICES, device)
    y = module(x)
    dy = gradient(y)
    module.backward(x, dy)
    out = theirs(torch.from_numpy(INDICES))
    out.backward(torch.from_numpy(flat(dy)[0]))
    close(flat(y), [out.detach().numpy()], 1e-12)
    close(flat(module.weight), [theirs.weight.detach().numpy()], 1e-12)
    close(flat(module.grad_weight), [theirs.weight.grad.numpy()], 1e-12)


def test_a_number_outside_the_table_is_named_with_its_place(device):
    module = put(nn.Embedding(7, 3), device)
    for value in (7, -1):
        x = INDICES.copy()
        x[4, 2] = value
        with pytest.raises(ValueError, match=rf"from 0 to 6 — got {value} at x\[4, 2\]"):
            module(move(x, device))
    with pytest.raises(ValueError, match="x must hold integers — got x"):
        module(move(INDICES.astype("f4"), device))


def test_sums_of_rows_are_the_same_bits_on_any_number_of_threads():
    cpu = pytest.importorskip("flambeau.kernels.cpu")
    generator = np.random.default_rng(1)
    x = generator.integers(0, 50, 5000)
    dy = generator.normal(size=(5000, 33)).astype("f4")
    before, sums = kernels.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            kernels.set_num_threads(threads)
            sums.append(np.zeros((50, 33), "f4"))
            cpu.embedding_backward(x, dy, sums[-1], 3, False)
    finally:
        kernels.set_num_threads(before)
    assert (sums[0] == sums[1]).all() and (sums[0] == sums[2]).all()
    assert not sums[0][3].any() and sums[0][4].any()
