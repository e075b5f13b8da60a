"""The command line: flambeau classify, features, finetune, inspect, models."""

import argparse
import os
import sys

STATUS = "exit status: 0 done; 1 done, but for some files; 2 not done; 130 interrupted"
MODEL = "efficientnet-lite0"


def main(arguments=None):
    """Run a command; returns the exit status: 0 done, 1 done but for some files, 2 not done."""
    options = parser().parse_args(arguments)
    sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold any bytes
    try:
        status = options.run(options) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever reads the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        complain(f"flambeau: {sentence(error)}")
        for note in getattr(error, "__notes__", ()):
            complain(f"  {note}")
        return 2
    except KeyboardInterrupt:
        hint = "; the same command continues" if options.command == "features" else ""
        complain(f"\nflambeau: interrupted{hint}")
        return 130


def parser():
    """What the commands take."""
    top = argparse.ArgumentParser(
        prog="flambeau", description="Trained networks, from the shell.", epilog=STATUS
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, text):
        made = commands.add_parser(name, help=text, description=text, epilog=STATUS)
        made.set_defaults(run=run)
        return made

    def network(made):
        made.add_argument(
            "--model",
            action="append",
            metavar="NAME|FILE",
            help=f"a name of `flambeau models` or a file (default: {MODEL}); twice for a prototxt "
            "and its caffemodel",
        )
        made.add_argument(
            "--batch", type=_positive, default=16, help="images at a time (default: 16)"
        )

    one = command("classify", classify, "Name what is in photographs: the five likeliest labels.")
    one.add_argument("images", nargs="+", metavar="IMAGE")
    one.add_argument("--top", type=_positive, default=5, help="how many labels (default: 5)")
    network(one)

    one = command(
        "features",
        features,
        "Write a layer's values for every image under a folder to an HDF5 file, in which `paths` "
        "names the rows of `features`. Interrupted and started again, it continues.",
    )
    one.add_argument("folder", metavar="DIR")
    one.add_argument("--layer", metavar="NAME", help="an inner value (default: the output)")
    one.add_argument("-o", "--output", required=True, metavar="OUT.h5")
    network(one)

    one = command(
        "finetune",
        finetune,
        "Train a classifier of your own on top of a trained network; DIR has one folder of images "
        "a class. Prints the accuracy after every epoch and keeps the best network, which "
        "`flambeau classify --model best.h5` uses.",
    )
    one.add_argument("folder", metavar="DIR")
    one.add_argument(
        "-o", "--output", default="best.h5", help="the best network (default: best.h5)"
    )
    one.add_argument(
        "--freeze-until",
        metavar="NAME",
        help="the last of the network's children that stays as it is (default: everything but "
        "the new classifier; '': nothing is frozen)",
    )
    one.add_argument(
        "--epochs", type=_positive, default=10, help="passes over the images (default: 10)"
    )
    one.add_argument(
        "--lr",
        type=_above_0,
        help="learning rate of Adam, which falls as a cosine (default: 0.01 for the classifier "
        "alone, 0.0003 where more learns)",
    )
    one.add_argument(
        "--validation",
        type=float,
        default=0.2,
        help="the share of images that is held out (default: 0.2)",
    )
    one.add_argument(
        "--flip",
        action="store_true",
        help="mirror training images at random; slower, since the frozen part sees every image "
        "in every epoch",
    )
    one.add_argument("--seed", type=int, default=0, help="of the split and the order (default: 0)")
    network(one)

    one = command("inspect", inspect, "Say what a weights file is and holds; nothing in it is run.")
    one.add_argument("file", metavar="FILE")

    command("models", models, "List the trained networks that are known by name.")
    return top


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return number


def _above_0(text):
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return number


def classify(options):
    """Print the likeliest labels of each image."""
    from flambeau.zoo import classification

    network = classification.ready(options.model or [MODEL])
    failed = []
    for path, result in classification.classify(
        network, options.images, options.top, options.batch
    ):
        if isinstance(result, Exception):
            failed.append((path, result))
            continue
        print(path)
        for label, probability in result:
            print(f"  {probability:6.1%}  {label}", flush=True)
    return left_out(failed)


def features(options):
    """Extract features into an HDF5 file."""
    from flambeau.zoo import classification, extraction

    network = classification.ready(options.model or [MODEL])
    report = extraction.extract(
        network, options.folder, options.output, options.layer, options.batch
    )
    shape = " x ".join(map(str, report.shape))
    print(f"{options.output}: {report.total} images x {shape} values, {report.new} of them new")
    return left_out(report.skipped)


def finetune(options):
    """Train a new classifier, print the accuracy of every epoch, keep the best network."""
    from flambeau import nn
    from flambeau.zoo import classification, finetuning

    nn.seed(options.seed)
    network = classification.ready(options.model or [MODEL])
    data = finetuning.Folders(
        options.folder, network.preprocessing, options.validation, options.seed
    )
    status = left_out(data.skipped)
    print(data, flush=True)
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
    print(f"{options.output}: the best epoch, {best:.1%} of the held-out images are right")
    return status


def inspect(options):
    """Print what a file is and holds."""
    from flambeau.zoo import inspection

    print(inspection.describe(options.file))


def models(options):
    """Print the index."""
    from flambeau import zoo

    print(zoo.list())


def left_out(failed):
    """Say which files were left out, and why: (path, error) pairs; returns the exit status."""
    for path, error in failed:
        why = sentence(error)
        complain(f"skipped: {why}" if str(path) in why else f"skipped: {path}: {why}")
    return int(bool(failed))


def sentence(error):
    """An error in one line, without Python's number and quotes where it is the system's."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def complain(text):
    """Print to standard error."""
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
