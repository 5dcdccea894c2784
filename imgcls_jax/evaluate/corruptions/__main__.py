"""Accuracy on corrupted test images: 19 corruptions at 5 severities each.

    python -m imgcls_jax.evaluate.corruptions --workdir DIR
    python -m imgcls_jax.evaluate.corruptions --config FILE.py[:VARIANT] --weights FILE|NAME [--workdir DIR]
    python -m imgcls_jax.evaluate.corruptions … --arrays FOLDER [--submission FILE.csv]
    python -m imgcls_jax.evaluate.corruptions --config FILE.py[:VARIANT] --sheet FILE.png

The first form takes the best checkpoint of a run, the second one weights from elsewhere. The test images of the config
are made --size pixels square (32, for which the corruptions are published, and which leaves CIFAR as it is), corrupted,
and fitted to the model as in evaluation. Prints the mean accuracy, which is the out-of-distribution score, and the mean
corruption error, and writes the table of all accuracies to DIR/corruptions.json, .md and .png.

--arrays takes images that were corrupted elsewhere, in CIFAR-10-C's layout: FOLDER/gaussian_noise.npy … or
distortion00.npy …, and labels.npy. Without labels.npy there is no score; --submission writes the predictions in
either case.
--sheet only draws every corruption of one test image. docs/robustness.md says more.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from imgcls_jax import config as c
from imgcls_jax import flags, predictions, runtime
from imgcls_jax.config import files
from imgcls_jax.console import Console
from imgcls_jax.errors import UserError
from imgcls_jax.evaluate import submission
from imgcls_jax.evaluate.corruptions import measure, sheet
from imgcls_jax.evaluate.corruptions.official import Arrays
from imgcls_jax.predictions import Predictor
from imgcls_jax.workdir import write_json


def main(arguments: Sequence[str] | None = None) -> None:
    options, config = flags.parse(_parser(), arguments, config_required=False)
    _check(options, config)
    arrays = Arrays(options.arrays) if options.arrays else None
    if arrays and options.submission:
        submission.check_names(arrays.names, arrays.folder)
    runtime.setup()
    console = Console()
    if options.sheet:
        _draw(config or files.restore(options.workdir / "config.json"), options)
        console.line(str(options.sheet))
        return

    test = None
    if options.weights:
        test, class_names = measure.load(config.data, options.size)
        config = predictions.with_weights(config, options.weights)
    else:
        config, class_names = predictions.restore(options.workdir)
    predictor = Predictor(config, len(class_names))
    for note in predictor.notes:
        console.line(f"note: {note}")

    if arrays:
        labels, score = measure.of_arrays(predictor, arrays, limit=options.limit, progress=console.line)
        if options.submission:
            submission.write_ood(options.submission, labels)
            console.line(_checked(options.submission, labels.shape, len(class_names)))
        if score is None:
            console.line(f"{arrays.folder} has no labels.npy, so there is no score")
            return
    else:
        test = test or measure.load(config.data, options.size)[0]
        score = measure.of_test_set(predictor, test, limit=options.limit, seed=options.seed, progress=console.line)
    console.line(score.markdown())
    if options.workdir:
        options.workdir.mkdir(parents=True, exist_ok=True)
        write_json(options.workdir / "corruptions.json", score.document())
        (options.workdir / "corruptions.md").write_text(score.markdown(), encoding="utf-8")
        score.plot(options.workdir / "corruptions.png", title=config.name)


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="a run's folder; with --weights, where the results go")
    parser.add_argument("--weights", help="torch or safetensors file, or a published name (docs/models.md)")
    parser.add_argument("--arrays", type=Path, metavar="FOLDER", help="images that were corrupted elsewhere")
    parser.add_argument("--submission", type=Path, metavar="FILE.csv", help="with --arrays: where predictions go")
    parser.add_argument("--limit", type=int, help="look at this many images only, spread evenly over the test set")
    parser.add_argument("--size", type=int, default=32, help="side at which images are corrupted, pixels (default: 32)")
    parser.add_argument("--seed", type=int, default=0, help="of the corruptions' random numbers (default: 0)")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="only draw the corruptions of one image")
    parser.add_argument("--image", type=int, default=0, help="with --sheet: which test image (default: 0)")
    return parser


def _check(options: argparse.Namespace, config: c.Config | None) -> None:
    if options.weights and config is None:
        raise UserError("--weights needs --config: it says which model the weights are for, and which data")
    if options.workdir and config and not options.weights:
        raise UserError("--workdir brings its own config: leave --config out, or give --weights too")
    if not (options.weights or options.workdir or (config and options.sheet)):
        raise UserError("give --workdir DIR of a run, or --config with --weights")
    if options.submission and (not options.arrays or options.limit):
        raise UserError("--submission wants the predictions of all images of --arrays: give that, and no --limit")
    for name, least in (("limit", 1), ("size", 8), ("seed", 0), ("image", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise UserError(f"--{name} is {value}, and must be at least {least}")


def _checked(path: Path, shape: tuple[int, ...], classes: int) -> str:
    """What to say of a submission just written, once it has proved sound."""
    distortions, severities, images = shape
    rows = submission.check_ood(path, classes=classes, distortions=distortions, severities=severities, images=images)
    whole = submission.DISTORTIONS * submission.SEVERITIES * submission.IMAGES
    return f"{path}: {rows:,} rows" + (f", but a whole submission has {whole:,}" if rows != whole else "")


def _draw(config: c.Config, options: argparse.Namespace) -> None:
    test, _ = measure.load(config.data, options.size)
    if options.image >= len(test):
        raise UserError(f"--image is {options.image}, but there are {len(test)} test images, counted from 0")
    options.sheet.parent.mkdir(parents=True, exist_ok=True)
    sheet.sheet(test.read(np.array([options.image]))[0], seed=options.seed).save(options.sheet)


if __name__ == "__main__":
    flags.run(main)
