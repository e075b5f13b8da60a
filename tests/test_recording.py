"""Recorded passes of optimised graphs give what the graphs give, and give way when these change."""

import threading

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.nngraph.optimized import RECORDED

cpu = pytest.importorskip("flambeau.kernels.cpu")


def network():
    """A network of most kinds of steps that are recorded."""
    nn.seed(3)
    x = nngraph.inputs("x")
    first = nn.ReLU()(nn.Conv2d(3, 32, 3, padding=1)(x), name="first")
    left = nn.ReLU6()(nn.Conv2d(32, 32, 3, padding=1)(first))
    right = nn.Conv2d(32, 32, 1)(first)
    h = nn.MaxPool2d(3, 2, 1)(left + right, name="pooled")
    h = nn.Conv2d(32, 32, 3, padding=1, groups=32)(nn.LocalResponseNorm(3)(h))
    h = nn.JoinTable(1)(nn.Conv2d(32, 16, 1)(h), nn.Conv2d(32, 24, 3, padding=1)(h))
    h = nn.Flatten()(nn.AdaptiveAvgPool2d(2)(nn.BatchNorm2d(40).eval()(nn.Tanh()(h))))
    return nngraph.Graph(x, nn.Softmax(1)(nn.Linear(160, 7)(h, name="scores"))).eval()


def images(seed, n=2, size=20, dtype="f4"):
    return np.random.default_rng(seed).normal(size=(n, 3, size, size)).astype(dtype)


def pair():
    """The optimised network twice: one that records, one that does not."""
    net = network()
    fast, plain = nngraph.optimize(net), nngraph.optimize(net)
    plain.records = False
    return fast, plain


def recorded(graph):
    """The recordings that the graph has."""
    return [r for r in vars(graph)["_recordings"].made.values() if r is not None]


def agree(fast, plain, *xs):
    np.testing.assert_array_equal(fast(*xs), plain(*xs))


def test_passes_are_the_same_before_while_and_after_they_are_recorded():
    fast, plain = pair()
    for seed in range(5):
        agree(fast, plain, images(seed))
        assert len(recorded(fast)) == (seed > 0)
    assert len(recorded(fast)[0].calls) > 8


def test_forms_are_recorded_one_by_one_and_the_last_four_kept():
    fast, plain = pair()
    for n, size in (1, 20), (2, 20), (1, 24), (3, 20), (2, 28):
        for seed in range(3):
            agree(fast, plain, images(seed, n, size))
    assert len(recorded(fast)) == 4
    turned = images(7).transpose(0, 1, 3, 2)
    for _ in range(3):
        agree(fast, plain, turned)
        agree(fast, plain, turned[..., ::-1, :])


def test_float64_is_recorded_too():
    fast, plain = (g.astype("f8") for g in pair())
    for graph in (fast, plain):
        for array in [*graph.parameters(), *(b for _, b in graph.named_buffers())]:
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
    for seed in range(3):
        agree(fast, plain, images(seed, dtype="f8"))
    assert recorded(fast)


def test_results_are_the_callers():
    fast, plain = pair()
    first, second = images(0), images(1)
    fast(first), fast(first)
    y = fast(first)
    fast(second)[...] = 7
    np.testing.assert_array_equal(y, plain(first))
    agree(fast, plain, second)


def test_several_inputs_and_outputs():
    a, b = nngraph.inputs("a"), nngraph.inputs("b")
    h = nn.Conv2d(3, 16, 3)(a) + nn.Conv2d(3, 16, 3)(b)
    net = nngraph.Graph([a, b], [nn.ReLU()(h), nn.Flatten()(nn.Tanh()(h))]).eval()
    fast, plain = nngraph.optimize(net), nngraph.optimize(net)
    plain.records = False
    for seed in range(4):
        xs = images(seed), images(seed + 10)
        for found, expected in zip(fast(*xs), plain(*xs), strict=True):
            np.testing.assert_array_equal(found, expected)
            assert found.strides == expected.strides
    assert recorded(fast)


def test_an_inner_value_can_still_be_asked_for():
    fast, plain = pair()
    x = images(0)
    fast(x), fast(x)
    (y, found), (_, expected) = fast(x, taps=["pooled"]), plain(x, taps=["pooled"])
    np.testing.assert_array_equal(found["pooled"], expected["pooled"])
    np.testing.assert_array_equal(y, plain(x))


def test_what_is_changed_is_seen():
    def rewritten(graph):
        weight = graph["scores"].weight
        weight.flags.writeable = True
        weight[...] = 0.5

    def closed_again(graph):
        graph["first"].weight = np.zeros_like(graph["first"].weight)
        graph["first"].weight.flags.writeable = False

    def bounded(graph):
        graph["first"].low = -0.25

    def replaced(graph):
        graph.set_child("pooled", nn.MaxPool2d(3, 2, 1, 1).eval())
        graph["pooled"].options = (5, 5), (2, 2), (2, 2), (1, 1), False

    def forward(graph):
        graph["pooled"].forward = lambda x: 2 * x[:, :, ::2, ::2]

    x = images(0)
    for change in (rewritten, closed_again, bounded, replaced, forward):
        fast, plain = pair()
        before = [fast(x) for _ in range(3)][-1]
        assert recorded(fast)
        change(fast), change(plain)
        for _ in range(3):
            agree(fast, plain, x)
        assert abs(fast(x) - before).max() > 1e-7, change.__name__


class Chooser(nn.Module):
    """Twice x when the sum of x is positive, else x: what runs depends on the values."""

    def forward(self, x):
        return 2 * x if x.sum() > 0 else x


def test_what_can_be_written_to_is_not_recorded():
    fast, plain = pair()
    made, make = [], cpu.recording.Recording
    for array in fast.parameters():
        array.flags.writeable = True

    class Counted(make):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    cpu.recording.Recording = Counted
    try:
        for seed in range(4):
            fast.parameters()[0][...] *= 0.5
            plain["first"].weight = fast["first"].weight.copy()
            agree(fast, plain, images(seed))
    finally:
        cpu.recording.Recording = make
    assert not made


def test_modules_of_other_kinds_are_not_recorded():
    net = nn.Sequential(nn.Conv2d(3, 16, 3), Chooser(), nn.Flatten()).eval()
    fast = nngraph.optimize(net)
    for sign in (1, 1, 1, -1, 1):
        x = sign * images(0)
        np.testing.assert_allclose(fast(x), net(x), rtol=1e-5, atol=1e-5)
    assert not recorded(fast) and Chooser not in RECORDED


def test_what_numpy_computes_is_not_recorded(monkeypatch):
    monkeypatch.setattr(cpu, "tanh", kernels.reference.tanh)
    fast, plain = pair()
    for seed in range(4):
        agree(fast, plain, images(seed))
    assert not recorded(fast)
    assert vars(fast)["_recordings"].refused == "other inputs give another result than they should"


def test_copies_into_parts_of_arrays_are_recorded():
    x = nngraph.inputs("x")
    h = nn.Conv2d(3, 16, 3)(x)
    net = nngraph.Graph(x, nn.JoinTable(2)(h, nn.Tanh()(h), h)).eval()
    fast, plain = nngraph.optimize(net), nngraph.optimize(net)
    plain.records = False
    for seed in range(4):
        agree(fast, plain, images(seed))
    assert recorded(fast)


def test_a_wrong_input_is_refused_as_ever():
    fast, _ = pair()
    x = images(0)
    fast(x), fast(x), fast(x)
    for wrong in (x[:, :2],), (x, x):
        with pytest.raises(ValueError, match=r"FusedConv2d.*: x must be \(n, 3, h, w\) — got"):
            fast(*wrong)


def test_threads_that_call_at_once_get_their_own_results():
    fast, plain = pair()
    xs = [images(seed) for seed in range(8)]
    expected = [plain(x) for x in xs]
    fast(xs[0]), fast(xs[0])
    made, wrong = recorded(fast), []

    def work(number):
        for _ in range(20):
            if not np.array_equal(fast(xs[number]), expected[number]):
                wrong.append(number)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert recorded(fast) == made  # passes beside each other change nothing that a pass depends on


def test_an_empty_batch_is_recorded_too():
    fast, plain = pair()
    for _ in range(4):
        agree(fast, plain, images(0, 0))


def test_another_number_of_threads_or_algorithm_is_another_form():
    fast, plain = pair()
    x, before = images(0), kernels.get_num_threads()
    fast(x), fast(x)
    try:
        kernels.set_num_threads(3 - min(before, 2))
        agree(fast, plain, x)
        with cpu.conv_algorithm.use("direct"):
            for _ in range(3):
                agree(fast, plain, x)
    finally:
        kernels.set_num_threads(before)
    agree(fast, plain, x)


def test_clear_state_and_the_end_of_the_graph_give_the_memory_back():
    before = cpu.memory.stats()["live"]
    fast, _ = pair()
    for _ in range(3):
        fast(images(0, 1, 64))
    assert recorded(fast)
    held = cpu.memory.stats()["live"]
    fast.clear_state()
    freed = cpu.memory.stats()["live"]
    assert before <= freed < held
    for _ in range(3):
        fast(images(0, 1, 64))
    del fast
    assert cpu.memory.stats()["live"] <= freed


def test_clones_and_files_start_afresh(tmp_path):
    fast, plain = pair()
    x = images(0)
    fast(x), fast(x)
    fast.save(tmp_path / "net.h5")
    for other in (fast.clone(), nn.load(tmp_path / "net.h5")):
        assert type(other) is nngraph.OptimizedGraph
        for _ in range(3):
            np.testing.assert_allclose(other(x), plain(x), rtol=1e-6)
    agree(fast, plain, x)


def test_the_reference_and_other_devices_are_not_recorded():
    fast, plain = pair()
    x = images(0)
    with kernels.use("reference"):
        for _ in range(3):
            np.testing.assert_allclose(fast(x), plain(x), rtol=1e-5)
    assert "_recordings" not in vars(fast)
    host = fast.to("host")
    for _ in range(2):
        np.testing.assert_allclose(
            kernels.to(host(kernels.to(x, "host")), "cpu"), plain(x), rtol=1e-4
        )
    assert "_recordings" not in vars(fast)


def test_c_gets_each_kind_of_argument_and_new_addresses():
    from flambeau.kernels.cpu import native, replay

    x, other, y = (np.full(5, v, "f4") for v in (1.5, 4, 0))
    place, starts = native.address, [a.__array_interface__["data"][0] for a in (x, other)]
    affine, arguments = native.found("affine", x.dtype), [place(x), place(y), 2.5, -1, 5]
    program = replay.Program([(affine, arguments)], [(arguments, 0, None, 1, 4)])
    arguments[4] = 0  # numbers were taken
    program.run([None, starts[0] - 4])
    assert y.tolist() == [2.75] * 5
    program.run([None, starts[1] - 4])
    assert y.tolist() == [9] * 5
    assert native.replayer(native.found("panel_width", x.dtype)) is None  # it gives a number


def test_a_recording_takes_fewer_bits_for_weights_that_were_used_before():
    native, draw = cpu.native, np.random.default_rng(0)
    x, w = (draw.normal(size=(n, 4096)).astype("f4") for n in (1, 600))
    expected, taken = cpu.linear(x, w, None), []
    w.flags.writeable = False
    for _ in range(3):
        recording = cpu.recording.Recording(lambda x: [cpu.linear(x, w, None)], [x])
        taken += [function for function, _ in recording.calls]
        assert (recording.run([x])[0] == expected).all()
    names = ["linear_few", "linear_compact", "linear_compact"]
    assert taken == [native.found(name, x.dtype) for name in names]
