"""All benchmarks, one after another, each with the command that repeats it: make bench

python tests/bench                prints what they print
python tests/bench --write        writes it to docs/benchmarks/cpu.md as well
python tests/bench --write NAME   or to another page there, such as avx512
"""

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

from flambeau import kernels
from flambeau.kernels.cpu import native

HERE = Path(__file__).resolve().parent
PAGES = HERE.parents[1] / "docs" / "benchmarks"
COMMANDS = [  # about half an hour together; with more seconds the figures are steadier
    ["networks.py", "--seconds", "8"],
    ["networks.py", "--seconds", "12", "--batch", "8", "vgg16", "resnet50"],
    ["networks.py", "--seconds", "20", "--train", "--batch", "8", "vgg16", "resnet50"],
    ["conv.py", "--seconds", "0.4"],
    ["products.py", "--seconds", "0.5"],
    ["ops.py", "--seconds", "0.5"],
    ["recurrent.py", "--seconds", "4"],
    ["overhead.py"],
    ["scaling.py", "--seconds", "6"],
    ["memory.py"],
    ["cold.py"],
    ["imports.py"],
]
HEADING = """\
# On a CPU{feature}

Printed on {date}, on a processor named {processor}, {threads} threads, by kernels for {isa}.
`make bench` prints it again; `python tests/bench --write {name}` writes this page, and each command
below repeats its table alone. Other work on the processor disturbs all columns of a table alike,
for they take turns: trust ratios before milliseconds.

Times are medians of runs in turn with each peer at its best setting. A ratio is the peer's time to
ours, above 1 flambeau is the faster, and the ratio of the best runs is in brackets; of memory it is
ours to theirs, below 1 flambeau needs less. What else the columns mean stands at the top of each
file in [tests/bench](../../tests/bench).
"""


def processor():
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def run(name, *arguments):
    """Print a benchmark's lines as they come; (the command and its lines, its exit status)."""
    lines = [f"$ python tests/bench/{' '.join([name, *arguments])}\n"]
    print("\n" + lines[0], end="", flush=True)
    command = [sys.executable, str(HERE / name), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        lines.append(f"failed with status {process.returncode}\n")
        print(lines[-1], end="", flush=True)
    return "".join(lines), process.returncode


def main():
    """Run all; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    how = {"nargs": "?", "const": "cpu", "metavar": "NAME"}
    parser.add_argument("--write", **how, help=f"to a page in {PAGES.name} as well")
    name = parser.parse_args().write
    if name:
        page = PAGES / f"{name}.md"
        about = {"date": time.strftime("%F"), "processor": processor(), "isa": native.isa}
        about |= {"threads": kernels.get_num_threads(), "name": name}
        about["feature"] = " with AVX-512" if native.isa == "avx512" else ""
        page.write_text(HEADING.format(**about))
    failed = False
    for command in COMMANDS:
        text, status = run(*command)
        failed |= status != 0
        if name:  # after each, so that an interruption loses nothing
            with page.open("a") as file:
                file.write(f"\n```\n{text}```\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
