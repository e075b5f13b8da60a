"""The command line: flambeau classify, features, finetune, inspect."""

import argparse
import sys


def main(arguments=None):
    """Run a command; returns the exit status: 0 done, 1 done but for some files, 2 not done."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except (ValueError, OSError) as error:
        print(f"flambeau {options.command}: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"flambeau {options.command}: interrupted", file=sys.stderr)
        return 130


def parser():
    """What the commands take."""
    top = argparse.ArgumentParser(prog="flambeau", description="Trained networks, from the shell.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name, run, text):
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(run=run)
        return made

    def network(made):
        made.add_argument(
            "--model",
            nargs="+",
            default=["efficientnet-lite0"],
            metavar="NAME|FILE",
            help="a name of the index or the network's files (default: efficientnet-lite0)",
        )
        made.add_argument("--batch", type=_positive, default=16, help="images at a time")

    one = command("classify", classify, "Name what is in photographs: the five likeliest labels.")
    one.add_argument("images", nargs="+", metavar="IMAGE")
    one.add_argument("--top", type=_positive, default=5, help="how many labels")
    network(one)

    one = command("features", features, "Write a layer's values for every image under a folder.")
    one.add_argument("folder", metavar="DIR")
    one.add_argument("--layer", help="the name of an inner value (default: the output)")
    one.add_argument("-o", "--output", required=True, metavar="OUT.h5")
    network(one)

    one = command("finetune", finetune, "Train a classifier of your own on folders of images.")
    one.add_argument("folder", metavar="DIR", help="one folder of images a class")
    one.add_argument(
        "-o", "--output", default="best.h5", help="the best network (default: best.h5)"
    )
    one.add_argument(
        "--freeze-until",
        metavar="NAME",
        help="the last child that stays as it is (default: all but the classifier; none: '')",
    )
    one.add_argument("--epochs", type=_positive, default=5)
    one.add_argument(
        "--lr", type=float, default=1e-3, help="learning rate of Adam, cosine schedule"
    )
    one.add_argument("--validation", type=float, default=0.2, help="share of images held out")
    one.add_argument("--flip", action="store_true", help="mirror training images at random")
    one.add_argument("--seed", type=int, default=0)
    network(one)

    one = command("inspect", inspect, "Say what a weights file is and holds; nothing in it is run.")
    one.add_argument("file", metavar="FILE")

    one = command("models", models, "List the trained networks that are known by name.")
    return top


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def classify(options):
    """Print the likeliest labels of each image."""
    from flambeau.zoo import classification

    network = classification.ready(options.model)
    failed = 0
    for path, result in classification.classify(
        network, options.images, options.top, options.batch
    ):
        if isinstance(result, Exception):
            failed += 1
            print(f"{path}: {result}", file=sys.stderr)
            continue
        print(path)
        for label, probability in result:
            print(f"  {probability:6.1%}  {label}")
    return int(failed > 0)


def features(options):
    """Extract features into an HDF5 file."""
    from flambeau.zoo import classification, extraction

    network = classification.ready(options.model)
    report = extraction.extract(
        network, options.folder, options.output, options.layer, options.batch
    )
    for path, why in report.skipped:
        print(f"skipped {path}: {why}", file=sys.stderr)
    print(
        f"{options.output}: {report.total} images x {report.shape} "
        f"({report.new} new, {len(report.skipped)} skipped)"
    )
    return int(bool(report.skipped))


def finetune(options):
    """Train a new classifier, print the accuracy of every epoch, keep the best network."""
    from flambeau.zoo import classification, finetuning

    network = classification.ready(options.model)
    data = finetuning.Folders(options.folder, options.validation, options.seed)
    for path, why in data.skipped:
        print(f"skipped {path}: {why}", file=sys.stderr)
    print(data)
    best = 0.0
    for epoch in finetuning.finetune(
        network,
        data,
        options.output,
        freeze_until=options.freeze_until,
        epochs=options.epochs,
        lr=options.lr,
        batch=options.batch,
        flip=options.flip,
        seed=options.seed,
    ):
        print(epoch, flush=True)
        best = max(best, epoch.accuracy)
    print(
        f"{options.output}: the best of {options.epochs} epochs, {best:.1%} of the held-out images"
    )
    return int(bool(data.skipped))


def inspect(options):
    """Print what a file is and holds."""
    from flambeau.zoo import inspection

    print(inspection.describe(options.file))


def models(options):
    """Print the index."""
    from flambeau import zoo

    print(zoo.list())


if __name__ == "__main__":
    sys.exit(main())
