"""A photograph classified by a new process, from its start to its end: python tests/bench/cold.py

Ours imports flambeau and reads SqueezeNet from its prototxt and caffemodel; PyTorch's imports torch
and reads the same weights from a .pth file into torch.nn. Both open the photograph with Pillow and
print the likeliest class, which must be the same. Processes take turns, files are in the page
cache. Milliseconds, medians; ratio: PyTorch's time to ours by the medians and, in brackets, by the
best runs; above 1 flambeau is the faster.

The weights are looked for in $FLAMBEAU_DATA, or else in shared/data beside the project.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("FLAMBEAU_DATA", HERE.parents[2] / "shared" / "data")).absolute()
PROTOTXT = DATA / "caffe/prototxt/squeezenet_v1.0_deploy.prototxt"
CAFFEMODEL = DATA / "caffe/squeezenet_v1.0.caffemodel"
PTH = DATA / "torch/squeezenet1_0_zip.pth"
PHOTOGRAPHS = DATA / "caffe/squeezenet_reference.npz"
SIZE, MEAN = 227, (104.0, 117.0, 123.0)  # of the photographs; of blue, green and red


def ours(photograph):
    """Print the class that flambeau finds."""
    from flambeau import zoo

    net = zoo.load(PROTOTXT, CAFFEMODEL)
    x = zoo.Preprocessing(SIZE, mean=MEAN, channels="BGR")(photograph)
    print(net(x).argmax())


def theirs(photograph):
    """Print the class that PyTorch finds."""
    import numpy as np
    import torch
    import torchnets
    from PIL import Image

    with torch.device("meta"):  # without fresh weights, which would be thrown away
        net = torchnets.squeezenet()
    net.load_state_dict(torch.load(PTH, weights_only=True), assign=True)
    with Image.open(photograph) as image:
        image = image.convert("RGB")
    if image.size != (SIZE, SIZE):
        image = image.resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    x = np.asarray(image, "f4")[:, :, ::-1] - np.asarray(MEAN, "f4")
    x = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))[None])
    with torch.inference_mode():
        print(net.eval()(x).argmax().item())


def classified(name, photograph):
    """What a new process that runs that function of this file prints."""
    command = [sys.executable, "-c", f"import cold; cold.{name}({str(photograph)!r})"]
    done = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout)


def main():
    """Print the times."""
    import numpy as np
    from PIL import Image
    from timing import measure, ratio

    for path in (PROTOTXT, CAFFEMODEL, PTH, PHOTOGRAPHS):
        if not path.exists():
            print(f"left out: there is no {path}")
            return
    with tempfile.TemporaryDirectory() as folder, np.load(PHOTOGRAPHS) as photographs:
        name, pixels = photographs["names"][2], photographs["rgb_uint8"][2]
        photograph = Path(folder) / f"{name}.png"
        Image.fromarray(pixels).save(photograph)
        found = {name: classified(name, photograph) for name in ("ours", "theirs")}
        if found["ours"] != found["theirs"]:
            raise AssertionError(f"classes differ: {found}")
        print(f"{name}: class {found['ours']} by both")
        functions = {n: lambda n=n: classified(n, photograph) for n in found}
        times = measure(functions, seconds=30, rounds=11)
    for column, t in zip(("flambeau", "PyTorch"), times.values(), strict=True):
        print(f"{column:10}{t.median * 1e3:7.0f} ms, interpreter included")
    print(f"{'ratio':10}{ratio(times['ours'], times['theirs'])}")


if __name__ == "__main__":
    main()
