"""Random calls of the C kernels against the reference: python tests/random_calls.py --seconds 60

A family of kernels is a function that yields calls; a seed draws all of them. What fails is shown
with its seed, and happens again with --seed and the family's name.
"""

import argparse
import time

import random_arrays
import random_draws
import random_images
import random_networks

FAMILIES = {f.__name__: f for f in (*random_images.FAMILIES, *random_arrays.FAMILIES)}
FAMILIES["networks"] = random_networks.network


def run(name, seed):
    """All calls of a family that a seed draws."""
    package = random_networks if name == "networks" else random_draws
    package.run(FAMILIES[name], seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", help=f"of {', '.join(FAMILIES)}; all")
    parser.add_argument("--seconds", type=float, default=0, help="how long; else one seed")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    given = parser.parse_args()
    for name in given.families:
        if name not in FAMILIES:
            parser.error(f"{name} is none of {', '.join(FAMILIES)}")
    end, seed, failed = time.monotonic() + given.seconds, given.seed, 0
    while seed == given.seed or time.monotonic() < end:
        for name in given.families or FAMILIES:
            try:
                run(name, seed)
            except Exception as error:
                failed += 1
                print(f"--seed {seed} {name}\n{random_draws.told(error)}", flush=True)
        seed += 1
    print(f"seeds {given.seed} to {seed - 1}: {failed} failed")
    return failed > 0


if __name__ == "__main__":
    raise SystemExit(main())
