"""What must hold of networks that nngraph.optimize has rewritten."""

import numpy as np
import pytest

from flambeau import kernels, nn, nngraph
from flambeau.zoo import models

from test_modules import close, flat, move, put


def alive(net, seed=0):
    """The network in evaluation, its running statistics away from where they begin."""
    generator = np.random.default_rng(seed)
    for module in net.find(nn.BatchNorm2d):
        module.running_mean[:] = generator.normal(size=module.num_features)
        module.running_var[:] = generator.uniform(0.5, 2, module.num_features)
        module.weight[:] = generator.normal(size=module.num_features)
        module.bias[:] = generator.normal(size=module.num_features)
    return net.eval()


def images(*shape):
    return np.random.default_rng(1).normal(size=shape).astype("f4")


def kinds(graph):
    return [type(module).__name__ for module in graph.named.values()]


NETWORKS = ["squeezenet1_1", "resnet18", "resnet50", "efficientnet_lite0", "resnet20", "vgg11_bn"]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_zoo_give_the_same(name):
    nn.seed(0)
    net = alive(models.build(name, num_classes=10))
    fast = nngraph.optimize(net)
    x = images(2, 3, 64, 64)
    expected = net(x)
    np.testing.assert_allclose(fast(x), expected, atol=2e-4 * abs(expected).max())
    assert not {"BatchNorm2d", "Dropout", "Add", "ReLU6"} & set(kinds(fast))
    assert not fast.learns()


def test_convolutions_that_are_only_joined_write_into_one_array(device):
    x = nngraph.inputs("x")
    a = nn.ReLU()(nn.Conv2d(24, 16, 1)(x), name="a")
    b = nn.ReLU()(nn.Conv2d(24, 20, 3, padding=1)(x), name="b")
    c = nn.Conv2d(24, 17, 3, padding=1)(nn.MaxPool2d(3, 1, 1)(x), name="c")
    both = nn.JoinTable(1)(a, b, c, name="both")
    net = nngraph.Graph(x, nn.JoinTable(1)(both, nn.Conv2d(24, 3, 1)(x, name="d")), {"inner": c})
    fast = nngraph.optimize(net.eval())
    assert kinds(fast) == ["MaxPool2d", "JoinedConv2d", "FusedConv2d", "JoinTable"]
    assert fast.values() == ["x", "maxpool2d_1", "both", "d", "jointable_1"]
    data = images(2, 24, 12, 9)
    expected = net(data)
    put(fast, device)
    close(flat(fast(move(data, device))), [expected], 1e-5)


def test_joined_convolutions_must_agree_in_size():
    net = nn.JoinedConv2d(nn.FusedConv2d(3, 4, (1, 1)), nn.FusedConv2d(3, 4, (3, 3)))
    x = images(1, 3, 6, 6)
    with pytest.raises(ValueError, match="the results must be alike but for channels"):
        net((x, x))


@pytest.mark.parametrize("groups, k", [(1, 40), (24, 24), (2, 6)])
@pytest.mark.parametrize("padding", [(0, 1, 0, 1), (1, 2, 3, 0), (0, 5, 0, 5)])
def test_zeros_before_a_convolution_become_its_padding(device, groups, k, padding):
    conv = nn.Conv2d(24, k, 3, stride=2, padding=(1, 0), groups=groups)
    net = nn.Sequential(nn.ZeroPad2d(padding), conv, nn.ReLU6()).eval()
    fast = nngraph.optimize(net)
    assert kinds(fast) == ["FusedConv2d"]
    data = images(2, 24, 9, 8)
    expected = net(data)
    put(fast, device)
    close(flat(fast(move(data, device))), [expected], 1e-5)


def test_a_block_becomes_one_step_a_convolution(device):
    x = nngraph.inputs("x")
    h = nn.Conv2d(3, 4, 3, padding=1, bias=False)(x, name="a")
    h = nn.ReLU()(nn.BatchNorm2d(4)(h, name="b"), name="c")
    y = nn.Conv2d(4, 3, 3, padding=1)(h, name="d") + x
    net = alive(nngraph.Graph(x, nn.ReLU()(y, name="end"), aliases={"raw": h, "sum": y}))
    fast = nngraph.optimize(net)
    assert kinds(fast) == ["FusedConv2d", "FusedConv2d"]
    assert fast.values() == ["x", "c", "end", "raw"]
    data = images(2, 3, 5, 6)
    expected, inner = net(data, taps=["raw"])
    put(fast, device)
    got, fast_inner = fast(move(data, device), taps=["raw"])
    close(flat(got), [expected], 1e-5)
    close(flat(fast_inner["raw"]), [inner["raw"]], 1e-5)


def test_values_that_others_use_are_left_alone():
    x = nngraph.inputs("x")
    a = nn.Conv2d(3, 3, 1)(x, name="a")
    b = nn.BatchNorm2d(3)(a, name="b")
    net = alive(nngraph.Graph(x, [nn.ReLU()(b, name="c") + a, b]))
    fast = nngraph.optimize(net)
    data = images(2, 3, 4, 4)
    for got, expected in zip(fast(data), net(data), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5)
    assert "BatchNorm2d" in kinds(fast)


def test_a_normalisation_by_batch_statistics_stays():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    data = images(2, 3, 4, 4)
    fast = nngraph.optimize(net)
    assert "BatchNorm2d" in kinds(fast)
    np.testing.assert_allclose(fast(data), net(data), atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2])
def test_scales_and_transposed_convolutions_are_folded(groups):
    net = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups), nn.BatchNorm2d(6), nn.Scale(6)
    )
    net[2].weight[:] = np.arange(6) - 2.5
    net[2].bias[:] = 1
    fast = nngraph.optimize(alive(net))
    assert kinds(fast) == ["ConvTranspose2d"]
    data = images(2, 4, 5, 5)
    np.testing.assert_allclose(fast(data), net(data), atol=1e-5)


def test_branches_are_laid_out_flat():
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    net = nn.Sequential(
        nn.Concat(1, inner, nn.Sequential(), nn.Conv2d(3, 2, 1)),
        nn.ConcatTable(nn.Conv2d(9, 5, 3), nn.Conv2d(9, 5, 3)),
        nn.Add(),
        nn.Dropout(0.5),
    ).eval()
    data = images(2, 3, 6, 6)
    fast = nngraph.optimize(net)
    np.testing.assert_allclose(fast(data), net(data), atol=1e-5)
    assert kinds(fast).count("FusedConv2d") == 4 and "Add" not in kinds(fast)


def test_the_given_network_is_left_as_it_was():
    net = alive(models.build("resnet20"))
    before = {name: a.copy() for name, a in net.state_dict().items()}
    fast = nngraph.optimize(net)
    for name, a in net.state_dict().items():
        assert (a == before[name]).all()
        assert not any(np.shares_memory(a, b) for b in fast.parameters())
    net.train()
    assert not fast.training


def test_the_result_is_for_inference_only():
    fast = nngraph.optimize(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()))
    x = images(1, 3, 2, 2)
    with pytest.raises(ValueError, match="for inference only: train the network"):
        fast.backward(x, fast(x))
    with pytest.raises(ValueError, match="read-only"):
        fast.parameters()[0][:] = 0


def test_optimized_networks_come_back_from_a_file(tmp_path):
    fast = nngraph.optimize(alive(models.build("resnet20")))
    fast.save(tmp_path / "fast.h5")
    again = nn.load(tmp_path / "fast.h5")
    x = images(1, 3, 32, 32)
    np.testing.assert_allclose(again(x), fast(x), rtol=0)
    with kernels.use("reference"):
        np.testing.assert_allclose(again(x), fast(x), rtol=0)


CHAINS = [  # (images, channels, between, taps, stride, padding, dilation, size)
    (1, 16, 96, (3, 3), (2, 2), (0, 0, 1, 1), (1, 1), (40, 36)),
    (2, 24, 48, (5, 5), (1, 1), (2, 2), (1, 1), (7, 7)),
    (3, 5, 32, (3, 5), (2, 1), (1, 2), (2, 1), (13, 11)),
    (1, 8, 64, (5, 3), (1, 2), (4, 3), (1, 1), (3, 30)),  # windows beside the image
    (1, 6, 32, (3, 3), (4, 2), (0, 0), (1, 1), (21, 9)),  # rows that no window reads
    (2, 4, 16, (3, 3), (1, 1), (1, 1), (1, 1), (90, 70)),  # several strips
    (0, 8, 16, (3, 3), (1, 1), (1, 1), (1, 1), (4, 4)),
    (1, 8, 40, (3, 3), (1, 1), (1, 1), (1, 1), (9, 8)),  # half a panel
    (1, 12, 24, (3, 3), (1, 1), (1, 1), (1, 2), (9, 9)),  # no kernel of its own: two steps
    (1, 12, 20, (7, 7), (1, 1), (3, 3), (1, 1), (9, 9)),
]
FIRSTS = [  # (kernel, stride, padding, dilation) of the first
    ((1, 1),),
    ((3, 3), (2, 2), (0, 0, 1, 1)),
    ((2, 5), (1, 2), (3, 1), (2, 1)),
    ((1, 1), (2, 1), (0, 1)),
]


def chain_of(chain, first, low, high, last):
    """The FusedConv2d of a chain: one of CHAINS, one of FIRSTS, bounds, results of a last or 0."""
    _, c, k, taps, stride, padding, dilation, _ = chain
    nn.seed(2)
    made = [
        nn.FusedConv2d(c, k, *first, low=low, high=high),
        nn.FusedConv2d(k, k, taps, stride, padding, dilation, k, low=high and -1.0, high=high),
    ]
    if last:
        made.append(nn.FusedConv2d(k, last, (1, 1), low=low, adds=high is None))
    for module in made:
        module.bias[...] = np.random.default_rng(3).normal(size=len(module.bias))
    return made


def check_chain(device, made, x):
    """The chain gives what its convolutions give one after another by the reference."""
    with kernels.use("reference"):
        y = made[1](made[0](x))
        if len(made) > 2 and made[2].adds:
            x = x, images(len(y), made[2].out_channels, *y.shape[2:])
            y = y, x[1]
        y = made[2](y) if len(made) > 2 else y
    net = nn.ChainedConv2d(*made)
    put(net, device)
    close(flat(net(move(x, device))), [y], 1e-5)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("low, high", [(None, None), (0.0, 6.0)])
def test_a_convolution_by_channel_takes_the_one_before_it(device, chain, low, high):
    made = chain_of(chain, FIRSTS[0], low, high, 0)
    check_chain(device, made, images(chain[0], chain[1], *chain[-1]))


@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("last, low, high", [(0, 0.0, 6.0), (24, None, None), (33, 0.0, 6.0)])
@pytest.mark.parametrize("chain", CHAINS)
def test_a_chain_may_begin_with_any_window_and_end_with_a_pixel(
    device, chain, last, low, high, first, monkeypatch
):
    from flambeau.kernels.cpu import conv_chained

    monkeypatch.setattr(conv_chained, "LAST", 0)  # the last is always part of the kernel
    monkeypatch.setattr(conv_chained, "RING", 400)  # few lines at a time
    conv_chained.planned.cache_clear()
    made = chain_of(chain, first, low, high, last)
    check_chain(device, made, images(chain[0], chain[1], *chain[-1]))
    conv_chained.planned.cache_clear()


def test_chains_are_found_where_nothing_else_uses_what_is_between():
    def layers(c=8, kernel=1):
        return nn.Conv2d(c, 32, kernel), nn.BatchNorm2d(32), nn.ReLU6()

    depthwise = nn.Conv2d(32, 32, 3, 2, groups=32), nn.BatchNorm2d(32), nn.ReLU6()
    pad, last = nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(32, 8, 1)
    net = nn.Sequential(*layers(), pad, *depthwise, last, nn.Conv2d(8, 8, 1))
    fast = nngraph.optimize(net.eval())
    assert kinds(fast) == ["ChainedConv2d", "FusedConv2d"]
    assert len(next(iter(fast.named.values()))) == 3
    image = nn.Sequential(*layers(3, 3), *depthwise, nn.Conv2d(32, 8, 3))
    assert kinds(nngraph.optimize(image.eval())) == ["ChainedConv2d", "FusedConv2d"]
    x = nngraph.inputs("x")
    h = nn.Conv2d(8, 32, 1)(x)
    both = nngraph.Graph(x, [nn.Conv2d(32, 32, 3, groups=32)(h), h])
    assert kinds(nngraph.optimize(both.eval())) == ["FusedConv2d", "FusedConv2d"]
    wide = nn.Sequential(nn.Conv2d(8, 32, 3), nn.Conv2d(32, 32, 3, groups=32))
    assert kinds(nngraph.optimize(wide.eval())) == ["FusedConv2d", "FusedConv2d"]


def test_chains_come_back_from_a_file(tmp_path):
    net = nn.Sequential(nn.Conv2d(8, 32, 1), nn.ReLU6(), nn.Conv2d(32, 32, 3, groups=32))
    fast = nngraph.optimize(net.eval())
    fast.save(tmp_path / "fast.h5")
    again, x = nn.load(tmp_path / "fast.h5"), images(1, 8, 9, 9)
    assert kinds(again) == ["ChainedConv2d"]
    np.testing.assert_array_equal(again(x), fast(x))


def test_a_chain_without_a_last_convolution_adds_too():
    ws = images(32, 8, 1, 1), images(32, 1, 3, 3)
    options = ((1, 1), (0, 0), (1, 1), 1), ((1, 1), (1, 1), (1, 1), 32)
    arrays = images(2, 8, 9, 9), images(2, 32, 9, 9), ws, (None, None), ((0.0, 6.0), (-3.0, 3.0))
    expected = kernels.package("reference").conv2d_chained(*arrays, options)
    found = kernels.package("cpu").conv2d_chained(*arrays, options)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_chain_takes_the_sum_behind_it(device):
    x = nngraph.inputs("x")
    h = nn.Conv2d(32, 32, 3, padding=1, groups=32)(nn.ReLU6()(nn.Conv2d(8, 32, 1)(x)))
    net = nngraph.Graph(x, nn.Add()(nn.Conv2d(32, 8, 1)(h), x)).eval()
    fast, data = nngraph.optimize(net), images(2, 8, 9, 9)
    assert kinds(fast) == ["ChainedConv2d"]
    with kernels.use("reference"):
        expected = net(data)
    put(fast, device)
    for _ in range(3):  # the third is a recording
        close(flat(fast(move(data, device))), [expected], 1e-5)


def test_a_chain_of_other_convolutions_is_refused():
    by_channel = nn.FusedConv2d(8, 8, (3, 3), groups=8)
    with pytest.raises(ValueError, match="first must be of one group, and add nothing"):
        nn.ChainedConv2d(nn.FusedConv2d(2, 8, (3, 3), groups=2), by_channel)
    with pytest.raises(ValueError, match="second must have a group for each channel of first"):
        nn.ChainedConv2d(nn.FusedConv2d(3, 8, (1, 1)), nn.FusedConv2d(8, 8, (3, 3)))
    with pytest.raises(ValueError, match="last must be 1 x 1, of stride 1, for the channels"):
        nn.ChainedConv2d(nn.FusedConv2d(3, 8, (1, 1)), by_channel, nn.FusedConv2d(8, 8, (3, 3)))
