"""The index of trained networks."""

import re
import subprocess
import sys

import numpy as np
import pytest

from flambeau.zoo import index

SLOTS = {"caffe": {"prototxt", "caffemodel"}}


def test_an_unknown_name_is_an_error_that_names_what_comes_close():
    with pytest.raises(ValueError, match="'efficientnet_lite_0'.*efficientnet-lite0"):
        index.get("efficientnet_lite_0")
    with pytest.raises(ValueError, match=r"'zzz': see flambeau.zoo.list\(\)"):
        index.get("zzz")


def test_the_list_prints_as_a_table_with_a_row_for_every_entry():
    lines = repr(index.list()).splitlines()
    assert lines[0].split() == ["name", "task", "licence", "description"]
    assert [line.split()[0] for line in lines[2:]] == [entry.name for entry in index.list()]
    assert max(map(len, lines)) <= 100


def test_an_entry_shows_its_name_description_and_licence():
    text = repr(index.get("efficientnet-lite0"))
    assert "efficientnet-lite0" in text and "75.1 %" in text and "Apache-2.0" in text


@pytest.mark.parametrize("entry", index.list(), ids=lambda entry: entry.name)
def test_every_entry_has_all_that_a_network_needs(entry):
    assert entry == index.get(entry.name)
    assert entry.licence in ("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause")
    assert (entry.variant is None) == (entry.model == "caffe")
    assert {file.role for file in entry.files} == SLOTS.get(entry.model, {"weights"})
    assert len({file.name for file in entry.files}) == len(entry.files)
    assert index.labels(entry.labels)
    assert entry.preprocessing(np.zeros((300, 200, 3), "u1")).shape == (1, 3, 224, 224)
    for file in entry.files:
        if file.package:
            assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+", file.package) and file.size > 0
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        else:
            assert file.url.startswith("https://")
            assert re.fullmatch("[0-9a-f]{8}", file.sha256_prefix)
            assert file.url.endswith(f"-{file.sha256_prefix}.pth")


def test_a_checksum_fits_only_its_own_file():
    whole = index.get("open-nsfw").files[0]
    assert (
        whole.fits(whole.sha256) and not whole.fits(whole.sha256[:8]) and not whole.fits("0" * 64)
    )
    prefix = index.get("resnet18").files[0]
    assert prefix.fits("f37072fd" + "0" * 56) and not prefix.fits("0" * 64)


def test_the_imagenet_labels_stand_in_the_order_of_imagenet():
    names = index.labels("imagenet")
    assert len(names) == len(set(names)) == 1000 and all(name.strip() == name for name in names)
    known = {0: "tench", 1: "goldfish", 151: "Chihuahua", 207: "golden retriever", 281: "tabby"}
    known |= {285: "Egyptian cat", 340: "zebra", 404: "airliner", 657: "missile", 817: "sports car"}
    known |= {872: "tripod", 954: "banana", 967: "espresso", 999: "toilet tissue"}
    assert {i: names[i] for i in known} == known


def test_labels_that_do_not_exist_are_an_error():
    with pytest.raises(ValueError, match="no labels 'mnist'"):
        index.labels("mnist")


def test_the_index_loads_neither_pillow_nor_tqdm_nor_the_network_library():
    code = "import sys; from flambeau.zoo import index; index.list(); print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"PIL", "tqdm", "urllib.request"} & set(out.stdout.split())
