"""Seed defects in copies of the CUDA sources; the generic tests on the host must catch each.

python tests/mutants.py [words of a mutant's name]
"""

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ROOT / "kernels" / "cuda"
ENVIRONMENT = {
    "FLAMBEAU_CACHE": str(ROOT / "build" / "mutants"),
    "OMP_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}

TESTS = {  # of families that are no modules
    "loss": ["tests/test_losses.py", "-k", "host"],
    "optim": ["tests/test_optim.py", "-k", "host"],
}


@dataclass(frozen=True)
class Mutant:
    """A defect: in `file` the first `old` after `place` becomes `new`; `family`'s tests run."""

    name: str
    family: str
    file: str
    place: str
    old: str
    new: str

    def seed(self, folder):
        """Write the sources with the defect to a folder."""
        for pattern in ("*.cu", "*.h"):
            for path in SOURCES.glob(pattern):
                shutil.copy(path, folder)
        text = (SOURCES / self.file).read_text()
        start = text.find(self.old, max(text.find(self.place), 0))
        if self.place not in text or start < 0:
            raise LookupError(f"{self.name}: {self.file} has no {self.old!r} after {self.place!r}")
        changed = text[:start] + self.new + text[start + len(self.old) :]
        (Path(folder) / self.file).write_text(changed)

    def outcome(self):
        """Run the tests on the defect: "caught", "survived" or the reason why neither is known."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                self.seed(folder)
            except LookupError as error:
                return str(error)
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
                + TESTS.get(
                    self.family, ["tests/test_modules.py", "-k", f"host and {self.family}-"]
                ),
                cwd=ROOT,
                env=os.environ | ENVIRONMENT | {"FLAMBEAU_CUDA_SOURCE": folder},
                capture_output=True,
                text=True,
            )
        if "does not compile" in done.stdout:
            return "does not compile"
        known = {0: "survived", 1: "caught"}
        return known.get(done.returncode, done.stdout + done.stderr)


MUTANTS = [
    Mutant(*fields)
    for fields in [
        (
            "a loop over one pass of the grid",
            "activation",
            "kernel.h",
            "#define STRIDED",
            "i += (i64)gridDim.x * blockDim.x",
            "i += n",
        ),
        (
            "blocks that take one row each",
            "softmax",
            "kernel.h",
            "#define BLOCKS",
            "row += gridDim.x",
            "row += n",
        ),
        (
            "no barrier in a block's sum",
            "normalization",
            "kernel.h",
            "real block_sum",
            "BARRIER;",
            "",
        ),
        (
            "no barrier after a block's sum",
            "loss",
            "kernel.h",
            "real total = shared[0]",
            "BARRIER;",
            "",
        ),
        (
            "half of an odd count lost in a block's sum",
            "loss",
            "kernel.h",
            "real block_sum",
            "(count + 1) / 2",
            "count / 2",
        ),
        (
            "no barrier after the tiles are loaded",
            "linear",
            "product.h",
            "b.write(",
            "BARRIER;",
            "",
        ),
        (
            "no barrier after the places of the depths are prepared",
            "linear",
            "product.h",
            "b.prepare(from",
            "BARRIER;",
            "",
        ),
        (
            "the half that is being read is written",
            "linear",
            "product.h",
            "b.write(",
            "space.b[1 - half]",
            "space.b[half]",
        ),
        (
            "a product that forgets to accumulate",
            "linear",
            "product.cu",
            "multiply(Space",
            "(other ? other[at + j] : 0)",
            "0",
        ),
        (
            "the rows counted, not summed",
            "linear",
            "linear.cu",
            "column_sums",
            "parts[i] = sum",
            "parts[i] = row",
        ),
        (
            "a tile read past its row",
            "linear",
            "product.h",
            "offsets[i] =",
            "k + i < to",
            "k + i <= to",
        ),
        (
            "the padding with the wrong sign",
            "conv",
            "conv.cu",
            "conv2d(",
            "stride_h - pad_h",
            "stride_h + pad_h",
        ),
        (
            "the filter's axes swapped",
            "conv",
            "conv.cu",
            "conv2d_data(",
            "* p + fy) * q + fx",
            "* q + fx) * p + fy",
        ),
        ("the dilation left out", "conv", "conv.cu", "conv2d_filter(", "fx * dilation_w", "fx"),
        (
            "the first group's channels for all",
            "conv",
            "conv.cu",
            "conv2d(",
            "channel / kg * cg",
            "0 * kg",
        ),
        (
            "a window one too far",
            "pooling",
            "pooling.cu",
            "i64 first_window",
            "over / stride + 1",
            "over / stride",
        ),
        (
            "the last of equals for the first",
            "pooling",
            "pooling.cu",
            "max_pool2d(",
            "value > most",
            "value < most",
        ),
        (
            "the last row of windows not read",
            "pooling",
            "pooling.cu",
            "max_pool2d_backward(",
            "last[row] < y",
            "last[row] <= y",
        ),
        (
            "the padding not counted",
            "pooling",
            "pooling.cu",
            "real divisor(",
            "if (!count_padding)",
            "if (1)",
        ),
        (
            "the mean's part of the gradient left out",
            "normalization",
            "normalization.cu",
            "KERNEL batch_norm_backward(",
            "sums ? sums[k] / m : 0",
            "0",
        ),
        (
            "a variance without its count",
            "normalization",
            "normalization.cu",
            "batch_statistics",
            "real variance = square / (n * inner)",
            "real variance = square / n",
        ),
        (
            "a part's distance from the mean left out",
            "normalization",
            "normalization.cu",
            "KERNEL batch_statistics(",
            "+ from * from * (images * inner)",
            "+ 0 * from * images",
        ),
        (
            "the window mirrored",
            "normalization",
            "normalization.cu",
            "response_norm_backward(",
            "high, low, within",
            "low, high, within",
        ),
        (
            "the slope's gradient of another channel",
            "activation",
            "activation.cu",
            "prelu_slope",
            "* c + k) * inner",
            "* c + c - 1 - k) * inner",
        ),
        (
            "the row's stride left out",
            "softmax",
            "softmax.cu",
            "KERNEL log_softmax(",
            "to[i * inner] = log_share",
            "to[i] = log_share",
        ),
        ("the scale left out", "dropout", "dropout.cu", "KERNEL dropout", "x[i] * scale", "x[i]"),
        ("a round of Philox less", "dropout", "dropout.cu", "philox(", "round < 10", "round < 9"),
        (
            "a stride of the next dimension",
            "elementwise",
            "arrays.cu",
            "define PLACE",
            "at * from[d]",
            "at * from[d > first ? d - 1 : d]",
        ),
        ("the crop to the wrong side", "padding", "padding.cu", "pad2d(", "- top", "+ top"),
        (
            "a channel's sum assigned",
            "elementwise",
            "elementwise.cu",
            "channel_sums",
            "dw[k] += sum_w",
            "dw[k] = sum_w",
        ),
        (
            "a tile's columns left from the tile before",
            "conv",
            "conv_product.cu",
            "multiply(Shared",
            "THREADS(i, COLUMNS)",
            "if (tile == 0) THREADS(i, COLUMNS)",
        ),
        (
            "parts of the depth that overlap",
            "conv",
            "conv_product.cu",
            "multiply(Shared",
            "from + each < g.depth ? from + each : g.depth",
            "g.depth",
        ),
        (
            "a gathered value between the strides",
            "conv",
            "conv_product.cu",
            "Place pixel",
            "to < 0 || to % stride_w ||",
            "to < 0 ||",
        ),
        (
            "the parts joined without the last",
            "conv",
            "product.cu",
            "KERNEL join(",
            "part < count",
            "part < count - (count > 1)",
        ),
        (
            "the target's share forgotten",
            "loss",
            "loss.cu",
            "cross_entropy_backward(",
            "d -= share(k, t, weight, c, smoothing)",
            "d -= 0",
        ),
        (
            "a row of the next place",
            "loss",
            "loss.cu",
            "KERNEL cross_entropy(",
            "row / inner * c * inner + row % inner",
            "row * c",
        ),
        (
            "the damping left out",
            "optim",
            "optim.cu",
            "KERNEL sgd_step",
            "momentum * v[i] + damp * d",
            "momentum * v[i] + d",
        ),
        (
            "the square left out",
            "optim",
            "optim.cu",
            "KERNEL adam_step",
            "d * d - v[i]",
            "d - v[i]",
        ),
    ]
]


def main(words):
    """Print the table; the number of mutants that were not caught."""
    chosen = [m for m in MUTANTS if all(word in m.name for word in words)]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(Mutant.outcome, chosen))
    for mutant, outcome in zip(chosen, outcomes, strict=True):
        print(f"{mutant.file:18} {mutant.name:45} {outcome}")
    missed = sum(outcome != "caught" for outcome in outcomes)
    print(f"{len(chosen) - missed} of {len(chosen)} caught")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) > 0)
