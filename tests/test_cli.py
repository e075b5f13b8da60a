"""The command line, on small networks and pictures made here."""

import os
import re
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from flambeau import nn, nngraph, zoo
from flambeau.__main__ import main
from flambeau.zoo import extraction, finetuning

COLOURS = {"blue": (10, 20, 200), "green": (20, 200, 10), "red": (200, 10, 20)}


@pytest.fixture
def folder(tmp_path):
    """One folder a colour, of six pictures each, and the working directory's `pictures`."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        place = tmp_path / "pictures" / name
        place.mkdir(parents=True)
        for i in range(6):
            noise = generator.integers(0, 50, (12, 12, 3))
            Image.fromarray((np.array(colour) + noise).astype("u1")).save(place / f"{i}.png")
    return tmp_path / "pictures"


def network(outputs=3):
    """A small network with what the commands need to know."""
    nn.seed(0)
    net = nn.Sequential(
        ("conv", nn.Conv2d(3, 8, 3, stride=2)),
        ("relu", nn.ReLU()),
        ("pool", nn.AdaptiveAvgPool2d(1)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(8, outputs)),
    )
    net.preprocessing = zoo.Preprocessing(8, mean=128.0, std=64.0)
    net.labels, net.name = ["one", "two", "three"], "small"
    return net


@pytest.fixture
def model(tmp_path):
    """The file of a small network."""
    zoo.save(network(), tmp_path / "small.h5")
    return str(tmp_path / "small.h5")


def whole(path):
    """The paths and features of an output."""
    with h5py.File(path) as file:
        return file["paths"].asstr()[:].tolist(), file["features"][:]


# ---- classify


def test_classify_prints_the_likeliest_labels_of_every_image(folder, model, capsys):
    images = [str(folder / "red/0.png"), str(folder / "blue/1.png")]
    assert main(["classify", *images, "--model", model, "--top", "2", "--batch", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == images[0] and lines[3] == images[1]
    net = zoo.load(model)
    scores = nn.Softmax(1)(net(net.preprocessing(images[1])))[0]
    best = scores.argmax()
    assert lines[4] == f"  {scores[best]:6.1%}  {net.labels[best]}"
    assert len(lines) == 6


def test_classify_leaves_out_what_is_no_image_and_says_so(folder, model, capsys):
    (folder / "note.txt").write_text("no image")
    images = [str(folder / name) for name in ("note.txt", "red/0.png", "missing.png")]
    assert main(["classify", *images, "--model", model]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(images[1]) and said.out.count("\n") == 4
    assert "note.txt is not an image" in said.err
    assert f"{images[2]}: No such file or directory" in said.err


def test_outputs_that_are_probabilities_stay_and_scores_become_some():
    from flambeau.zoo.classification import probabilities

    p = np.array([[0.5, 0.25, 0.25]], "f4")
    assert probabilities(p[:, :, None, None]).tolist() == p.tolist()
    assert np.allclose(probabilities(np.array([[1.0, 1.0]], "f4")), 0.5)
    with pytest.raises(ValueError, match=r"one score a class — its output is \(1, 3, 2, 2\)"):
        probabilities(np.zeros((1, 3, 2, 2), "f4"))


# ---- features


def test_features_are_those_of_the_layer_row_by_row(folder, model, tmp_path, capsys):
    out = tmp_path / "new" / "out.h5"
    command = ["features", str(folder), "-o", str(out), "--layer", "flatten", "--model", model]
    assert main([*command, "--batch", "5"]) == 0
    assert "18 images x 8 values, 18 of them new" in capsys.readouterr().out
    paths, values = whole(out)
    assert paths == [f"{name}/{i}.png" for name in COLOURS for i in range(6)]
    net = zoo.load(model).until("flatten").eval()
    x = zoo.load(model).preprocessing([str(folder / path) for path in paths])
    assert np.allclose(values, net(x), atol=1e-6)
    assert [p.name for p in out.parent.iterdir()] == ["out.h5"]


def test_features_of_images_that_came_later_are_added(folder, model, tmp_path, capsys):
    command = ["features", str(folder), "-o", str(folder / "out.h5"), "--model", model]
    (folder / ".hidden.png").write_bytes(b"")
    assert main(command) == 0
    shutil.copy(folder / "red/0.png", folder / "again.png")
    (folder / "broken.png").write_bytes((folder / "red/0.png").read_bytes()[:60])
    assert main(command) == 1
    said = capsys.readouterr()
    assert "19 images x 3 values, 1 of them new" in said.out
    assert "broken.png" in said.err and ".hidden" not in said.err
    paths, values = whole(folder / "out.h5")
    assert paths[-1] == "again.png"
    assert np.allclose(values[-1], values[paths.index("red/0.png")], atol=1e-6)


def test_features_of_other_weights_layers_or_files_are_not_mixed(folder, model, tmp_path, capsys):
    out = tmp_path / "out.h5"
    command = ["features", str(folder), "-o", str(out), "--model", model]
    assert main(command) == 0
    before = out.read_bytes()
    assert main([*command, "--layer", "pool"]) == 2
    assert "layer , not pool" in capsys.readouterr().err
    net = network()
    net["fc"].weight[0] += 1
    zoo.save(net, model)
    assert main(command) == 2
    assert re.search("is there, and is of weights .{8}, not .{8}:", capsys.readouterr().err)
    assert out.read_bytes() == before
    out.write_text("something else")
    assert main(command) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert out.read_text() == "something else"


def test_a_folder_without_images_gives_no_output(tmp_path, model, capsys):
    (tmp_path / "pictures").mkdir()
    command = ["features", str(tmp_path / "pictures"), "-o", str(tmp_path / "out.h5")]
    assert main([*command, "--model", model]) == 2
    assert "none of the 0 files" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == ["pictures", "small.h5"]


DEATHS = {  # where the run ends, as (owner, function, call)
    "after three batches": ("extraction.Journal", "add", 4),
    "between values and their paths": ("extraction.Journal", "_lines", 5),
    "before the output is in its place": ("os", "replace", 1),
    "before what was left is cleared": ("extraction.shutil", "rmtree", 1),
}
DYING = """
import os, signal, sys
from flambeau.zoo import extraction
from flambeau.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
inner, calls = {owner}.{function}, []
def dying(*args):
    calls.append(args)
    if len(calls) == {call}:
        os.kill(os.getpid(), signal.{signal})
    return inner(*args)
{owner}.{function} = dying
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("death", DEATHS)
def test_an_interrupted_run_continues(death, number, folder, model, tmp_path, monkeypatch):
    command = ["features", str(folder), "--model", model, "--batch", "3"]
    out = tmp_path / "out.h5"
    owner, function, call = DEATHS[death]
    code = DYING.format(owner=owner, function=function, call=call, signal=number)
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "-o", str(out)], capture_output=True, text=True
    )
    assert done.returncode == (-signal.SIGKILL if number == "SIGKILL" else 130), done.stderr
    if number == "SIGINT":
        assert "interrupted; the same command continues" in done.stderr
        assert "Traceback" not in done.stderr
    assert out.exists() == (death == "before what was left is cleared")

    seen = []
    batches = extraction.batches
    watched = lambda way, paths, size: seen.extend(paths) or batches(way, paths, size)  # noqa: E731
    monkeypatch.setattr(extraction, "batches", watched)
    assert main([*command, "-o", str(out)]) == 0
    assert len(seen) <= 9  # three batches of three were kept
    assert main([*command, "-o", str(tmp_path / "at once.h5")]) == 0
    (paths, values), (all_paths, all_values) = whole(out), whole(tmp_path / "at once.h5")
    assert paths == all_paths
    assert np.allclose(values, all_values, atol=1e-6)
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_two_runs_do_not_write_one_output(folder, model, tmp_path, capsys):
    key = {"shape": [3]}
    command = ["features", str(folder), "-o", str(tmp_path / "out.h5"), "--model", model]
    with extraction.Journal(tmp_path / "out.h5", key):
        assert main(command) == 2
    assert "another run is writing" in capsys.readouterr().err
    assert main(command) == 0


# ---- finetune


def test_finetune_learns_and_classify_uses_what_it_kept(folder, model, tmp_path, capsys):
    (folder / "red/note.txt").write_text("no image")
    best = str(tmp_path / "best.h5")
    command = ["finetune", str(folder), "--model", model, "-o", best, "--lr", "0.1"]
    assert main([*command, "--epochs", "15", "--batch", "4"]) == 1  # for the note
    said = capsys.readouterr()
    assert "note.txt" in said.err
    assert "3 classes, 15 images to train on, 3 held out" in said.out
    assert len(re.findall(r"^epoch \d+: loss [\d.]+, held out [\d.]+%", said.out, re.M)) == 15
    assert "best.h5: the best epoch, 100.0% of the held-out images are right" in said.out
    assert main(["classify", str(folder / "green/3.png"), "--model", best, "--top", "1"]) == 0
    assert capsys.readouterr().out.split()[-1] == "green"
    before, after = zoo.load(model), zoo.load(best)
    assert np.array_equal(before["conv"].weight, after["conv"].weight)
    assert after.labels == ["blue", "green", "red"]


@pytest.mark.parametrize("options", [["--freeze-until", ""], ["--freeze-until", "relu"]])
def test_finetune_can_learn_more_than_the_classifier(options, folder, model, tmp_path):
    best = str(tmp_path / "best.h5")
    command = ["finetune", str(folder), "--model", model, "-o", best, "--flip", "--epochs", "2"]
    assert main([*command, *options]) == 0
    same = np.array_equal(zoo.load(model)["conv"].weight, zoo.load(best)["conv"].weight)
    assert same == (options[1] == "relu")


def test_the_frozen_part_sees_every_image_once(folder, monkeypatch, tmp_path):
    net = network()
    data = finetuning.Folders(folder, net.preprocessing)
    seen = []
    forward = net["conv"].forward
    net["conv"].forward = lambda x: seen.append(len(x)) or forward(x)
    run = finetuning.finetune(net, data, tmp_path / "best.h5", epochs=4, batch=7)
    first = next(run)
    assert sum(seen) == 18
    del net["conv"].forward
    rest = list(run)
    assert sum(seen) == 18 and [epoch.number for epoch in (first, *rest)] == [1, 2, 3, 4]


def test_kept_values_train_as_the_whole_network_does(folder, tmp_path, monkeypatch):
    def losses(split):
        monkeypatch.setattr(finetuning, "split", split)
        net = network()
        data = finetuning.Folders(folder, net.preprocessing)
        return [e.loss for e in finetuning.finetune(net, data, tmp_path / "b.h5", epochs=3)]

    kept = losses(finetuning.split)
    assert np.allclose(kept, losses(lambda net: (nn.Sequential(), nn.Sequential(net))), rtol=1e-4)


def convolutional():
    """A network whose classifier is a convolution, as in SqueezeNet; with a softmax."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    end = nn.Sequential(nn.Dropout(), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Softmax(1))
    return nn.Sequential(("body", body), ("end", end))


def wired():
    """The same as a graph."""
    x = nngraph.inputs("x")
    h = nn.ReLU()(nn.Conv2d(3, 4, 3)(x, name="conv"), name="relu")
    y = nn.AdaptiveAvgPool2d(1)(nn.Conv2d(4, 5, 1)(h + h, name="scores"))
    return nngraph.Graph(x, nn.Softmax(1)(y))


@pytest.mark.parametrize("make", [network, convolutional, wired])
def test_a_network_is_split_where_it_begins_to_learn(make):
    net = make()
    finetuning.new_classifier(net, 7)
    finetuning.freeze(net, None)
    trunk, head = finetuning.split(net)
    x = np.random.default_rng(0).standard_normal((2, 3, 9, 9), np.float32)
    assert not trunk.learns() and len(trunk)
    assert next(iter(head)).learns()
    assert np.allclose(head.eval()(trunk(x)), net.eval()(x).reshape(2, 7), atol=1e-6)
    assert not net.find(nn.Softmax)
    finetuning.freeze(net, "")
    trunk, head = finetuning.split(net)
    assert len(trunk) == 0 and len(head.parameters()) == len(net.parameters())


def test_a_network_whose_end_is_no_classifier_is_refused():
    with pytest.raises(ValueError, match="must be Linear or Conv2d — got 1 BatchNorm2d"):
        finetuning.new_classifier(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), 2)


# ---- inspect, models and mistakes


def test_inspect_says_what_a_file_is(model, tmp_path, capsys):
    assert main(["inspect", model]) == 0
    said = capsys.readouterr().out
    assert "a network saved by flambeau" in said and "Linear(8, 3)" in said
    zoo.load(model)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["layer/weight"] = np.zeros((2, 3), "f4")
    assert main(["inspect", str(tmp_path / "other.h5")]) == 0
    said = capsys.readouterr().out
    assert re.search(r"layer/weight +\(2, 3\) +float32", said) and "1 tensors, 6 values" in said


@pytest.mark.data
@pytest.mark.parametrize(
    "name, expected",
    [
        ("caffe/lenet_v1.prototxt", "name: LeNet"),
        ("caffe/lenet_v2.caffemodel", "8 tensors, 431,080 values"),
        ("torch/resnet20-12fca82f.th", "97 tensors"),
    ],
)
def test_inspect_reads_files_of_others(name, expected, data, capsys):
    assert main(["inspect", str(data / name)]) == 0
    assert expected in capsys.readouterr().out


def test_models_lists_the_index(capsys):
    assert main(["models"]) == 0
    assert "efficientnet-lite0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command, expected",
    [
        (["inspect", "missing"], "flambeau: missing: No such file or directory"),
        (["inspect", "setup.txt"], "flambeau: setup.txt is in no format that flambeau reads"),
        (["classify", "a.png", "--model", "resnet81"], "did you mean resnet18"),
        (["classify", "a.png", "--model", "missing.h5"], "there is no file 'missing.h5'"),
        (["classify", "a.png", "--model", "bare.h5"], "bare.h5 does not say how images"),
        (["features", "missing", "-o", "o.h5"], "missing is no folder"),
        (
            ["features", ".", "-o", "o.h5", "--layer", "pool5"],
            "no 'pool5' in Sequential; the names",
        ),
        (["finetune", "missing"], "flambeau: missing: No such file or directory"),
        (["finetune", "one"], "at least two — got a"),
        (["finetune", "two"], "the class a must have at least two images — got 0"),
        (["finetune", "two", "--validation", "1.5"], "validation must lie between 0 and 1"),
    ],
)
def test_a_mistake_is_told_in_one_line(command, expected, tmp_path, model, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.txt").write_text("text")
    nn.Sequential(nn.Linear(2, 3)).save("bare.h5")
    for name in ("one/a", "two/a", "two/b"):
        (tmp_path / name).mkdir(parents=True)
    if command[0] != "inspect" and "--model" not in command:
        command = [*command, "--model", model]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1


@pytest.mark.parametrize(
    "command", [[], ["classify"], ["features", "d"], ["classify", "a", "--top", "0"]]
)
def test_a_command_that_is_not_whole_shows_its_usage(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 2
    assert "usage: flambeau" in capsys.readouterr().err


def test_output_that_nobody_reads_is_no_error(tmp_path):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "flambeau", "models"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, "")
