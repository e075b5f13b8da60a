"""Networks imported from Caffe train a step on every device to the same numbers."""

import numpy as np
import pytest

from flambeau import kernels, nn, zoo

from test_modules import close, move, put

NETWORKS = {  # the files, the value that is trained, the input
    "lenet_v1": ("ip2", (4, 1, 28, 28)),
    "small/resnet50": ("fc1000", (1, 3, 224, 224)),
}


def step(data, name, device):
    """One step of SGD: (loss before, scores, dx, every parameter after)."""
    value, shape = NETWORKS[name]
    stem = data / "caffe" / name
    net = zoo.load(f"{stem}.prototxt", f"{stem}.caffemodel").until(value)
    net = put(net.train(), device)
    x = move(np.random.default_rng(0).uniform(0, 1, shape).astype("f4"), device)
    loss, sgd = nn.CrossEntropyLoss(), nn.optim.SGD(net, lr=1e-3, momentum=0.9, weight_decay=1e-4)
    target = np.arange(shape[0])
    y = net(x)
    before = loss(y, target)
    dx = net.backward(x, loss.backward(y, target))
    sgd.step()
    arrays = [kernels.to(a, "cpu") for a in (y, dx, *net.parameters())]
    return [np.array(before, "f4"), *arrays, *(np.asarray(v) for v in net.state_dict().values())]


@pytest.mark.data
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("device", ["cpu", "host", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_a_training_step_gives_the_same_numbers(name, device, data):
    with kernels.use("reference"):
        expected = step(data, name, "reference")
    with kernels.use("cpu" if device == "cpu" else "reference"):
        got = step(data, name, device)
    assert expected[0] > 0
    close(got, expected, 2e-4)
