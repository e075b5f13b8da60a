"""What is changed in a network is seen by the recordings of its steps."""

import numpy as np

from flambeau import nn

from test_recorded import agree, images, move, pair, plain, recorded, residual, same, step


def test_what_is_changed_is_seen():
    def rewritten(net):
        for array in net.parameters():  # in place: nothing holds another object
            array *= 1.5

    def frozen(net):
        net.find(nn.Conv2d)[2].freeze()

    def replaced(net):
        net.set_child("short", nn.BatchNorm2d(32).eval())

    def shared(net):
        one, two = net.find(nn.BatchNorm2d)[:2]
        two.weight, two.grad_weight = one.weight, one.grad_weight

    def moved(net):
        net.flatten_parameters()

    def eased(net):
        net.find(nn.BatchNorm2d)[0].eps = 0.5

    def overridden(net):
        net["first"].forward = lambda x: 2 * x

    x = images(0)
    for change in rewritten, frozen, replaced, shared, moved, eased, overridden:
        fast, own = pair(residual)
        before = [step(fast, x)[0] for _ in range(4)][-1]
        [step(own, x) for _ in range(4)]
        assert recorded(fast)
        change(fast.network), change(own)
        for seed in range(4):
            agree(fast, own, x, seed)
        assert change in (frozen, moved, shared) or abs(fast(x) - before).max() > 1e-6, (
            change.__name__
        )
        assert change is overridden or recorded(fast)
    assert "ReLU" in fast.refused


def test_a_mean_over_all_batches_is_not_recorded():
    fast, own = pair(residual)
    for seed in range(4):
        agree(fast, own, images(seed))
    assert recorded(fast)
    for net in (fast.network, own):
        net.find(nn.BatchNorm2d)[1].momentum = None
    for seed in range(4):
        agree(fast, own, images(seed))
    assert not recorded(fast) and "momentum must be a number" in fast.refused


def test_weights_that_could_not_be_written_to_are_read_anew():
    fast, own = pair(plain)
    for layer in fast.network.find((nn.Conv2d, nn.Linear)):
        layer.weight = layer.weight.copy()
        layer.weight.flags.writeable = False
    for seed in range(4):
        agree(fast, own, images(seed))
    assert recorded(fast)
    for layer in fast.network.find((nn.Conv2d, nn.Linear)):
        layer.weight.flags.writeable = True
        layer.weight *= 1.5
        layer.weight.flags.writeable = False
    for layer in own.find((nn.Conv2d, nn.Linear)):
        layer.weight = layer.weight * 1.5
    agree(fast, own, images(4))
    assert fast.saved is not None  # it was a recorded step


def test_weights_in_any_memory_order():
    fast, own = pair(plain)
    for net in (fast.network, own):
        for layer in net.find((nn.Conv2d, nn.Linear)):
            layer.weight = np.asfortranarray(layer.weight)
    for seed in range(5):
        agree(fast, own, images(seed))
        move(fast.network), move(own)
    assert recorded(fast)
    for net in (fast.network, own):
        layer = net.find(nn.Conv2d)[1]
        layer.weight = layer.weight[::-1]
    for seed in range(4):
        agree(fast, own, images(seed))
    assert fast.refused == "an array runs backwards in memory"


def test_a_change_between_forward_and_backward_is_seen():
    fast, own = pair(residual)
    x, dy = images(0), np.ones((2, 7), "f4")
    for _ in range(4):
        agree(fast, own, x)
    fast(x), own(x)
    for net in (fast.network, own):
        net.find(nn.Conv2d)[1].freeze()
    same([fast.backward(x, dy)], [own.backward(x, dy)])
    same(fast.network.gradients(), own.gradients())


def test_frozen_norms_read_their_statistics_anew():
    fast, own = pair(residual)
    for net in (fast.network, own):
        for norm in net.find(nn.BatchNorm2d):
            norm.freeze()
    for seed in range(5):
        agree(fast, own, images(seed))
        for net in (fast.network, own):
            for norm in net.find(nn.BatchNorm2d):
                norm.running_var *= 1.5
    assert recorded(fast)


def test_evaluation_is_the_networks_own():
    fast, own = pair(residual)
    for seed in range(4):
        agree(fast, own, images(seed))
    fast.eval(), own.eval()
    same([fast(images(5))], [own(images(5))])
    agree(fast, own, images(6))
    fast.train(), own.train()
    for seed in range(4):
        agree(fast, own, images(seed))
    assert recorded(fast)
