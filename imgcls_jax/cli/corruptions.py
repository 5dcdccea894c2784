"""Accuracy on corrupted test images: 19 corruptions at 5 severities each.

With --workdir alone: the best checkpoint of a run; with --config and --weights: weights from elsewhere. The test images
(with --split validation: the validation images) are resized to --size pixels square (32, for which the corruptions are
published, and which leaves CIFAR as it is), corrupted, and fitted to the model as in evaluation. Prints the mean
accuracy, which is the out-of-distribution score, and the mean corruption error, and writes the table of all accuracies
to DIR/corruptions.json, .md and .png.

--arrays takes images that were corrupted elsewhere, in CIFAR-10-C's layout: FOLDER/gaussian_noise.npy … or
distortion00.npy …, and labels.npy.
--sheet only draws every corruption of one test image; it needs no weights. docs/robustness.md says more.

Examples:
  imgcls corruptions --workdir runs/cifar10_cnn
  imgcls corruptions --config configs/cifar10_cnn.py --sheet corruptions.png
  imgcls corruptions --workdir runs/cifar10_cnn --arrays CIFAR-10-C
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.config import Config


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    subject = flags.subject_of(options, needs_weights=not options.sheet)
    config = subject.config

    from imgcls_jax.display.console import Console
    from imgcls_jax.evaluation.corruptions import measure
    from imgcls_jax.evaluation.corruptions.official import Arrays
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.record.json_files import write_json
    from imgcls_jax.xla import runtime

    arrays = Arrays(options.arrays) if options.arrays else None
    if arrays and arrays.labels is None:
        raise UserError(f"{arrays.folder} has no labels.npy, so that there is no score to compute")
    runtime.setup()
    console = Console()
    if options.sheet:
        _draw(config, options)
        console.line(str(options.sheet))
        return

    if options.workdir:
        outputs.make_folder(options.workdir)
    classifier = Classifier.load(subject.source, config)
    for note in classifier.notes:
        console.line(f"note: {note}")

    with console.wait("corrupting and classifying") as wait:

        def progress(sentence: str) -> None:
            wait.on_progress(sentence, 0, None)

        if arrays:
            _, score = measure.of_arrays(classifier.labels, arrays, limit=options.limit, progress=progress)
            assert score is not None, "there are labels"
        else:
            test, _ = measure.load(
                classifier.config.data, options.size, split=options.split, trained=classifier.class_names
            )
            score = measure.of_test_set(
                classifier.labels, test, limit=options.limit, seed=options.seed, progress=progress
            )
    console.line(score.markdown())
    if options.workdir:
        write_json(options.workdir / "corruptions.json", score.document())
        outputs.write_text(options.workdir / "corruptions.md", score.markdown())
        score.plot(options.workdir / "corruptions.png", title=classifier.config.name)


def _parser() -> argparse.ArgumentParser:
    parser = flags.parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="a run's folder; with --weights, where the results go")
    parser.add_argument("--weights", help="torch or safetensors file, or a published name (docs/models.md)")
    parser.add_argument("--arrays", type=Path, metavar="FOLDER", help="images that were corrupted elsewhere")
    parser.add_argument(
        "--split", choices=("test", "validation"), default="test", help="images to corrupt (default: test)"
    )
    parser.add_argument("--limit", type=flags.whole(1), help="use only so many images, evenly spread")
    parser.add_argument(
        "--size", type=flags.whole(8, 4096), default=32, help="pixels of a side when corrupted (default: 32)"
    )
    parser.add_argument("--seed", type=flags.whole(0), default=0, help="of the random numbers (default: 0)")
    parser.add_argument("--sheet", type=Path, metavar="FILE.png", help="only draw the corruptions of one image")
    parser.add_argument("--image", type=flags.whole(0), default=0, help="with --sheet: which test image (default: 0)")
    return parser


def _draw(config: "Config", options: argparse.Namespace) -> None:
    import numpy as np

    from imgcls_jax.evaluation.corruptions import measure, sheet

    test, _ = measure.load(config.data, options.size, split=options.split)
    if options.image >= len(test):
        raise UserError(f"--image is {options.image}, but there are {len(test)} {options.split} images, counted from 0")
    with outputs.writing(options.sheet, binary=True) as file:
        sheet.sheet(test.read(np.array([options.image]))[0], seed=options.seed).save(file, "PNG")
