"""All benchmarks, one after another: make bench. Each prints the command that repeats it."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = [
    ["networks.py"],
    ["networks.py", "--batch", "8", "vgg16", "resnet50"],
    ["networks.py", "--train", "--batch", "8", "vgg16", "resnet50"],
    ["conv.py"],
    ["products.py"],
    ["ops.py"],
    ["recurrent.py"],
    ["imports.py"],
]

for name, *arguments in COMMANDS:
    print(f"\n$ python tests/bench/{' '.join([name, *arguments])}", flush=True)
    subprocess.run([sys.executable, str(HERE / name), *arguments], check=True)
