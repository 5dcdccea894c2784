"""List images to look at: the most wrong ones, those whose label is probably wrong, and duplicates.

Takes the predictions that the run, or `imgcls evaluate`, has kept in DIR: of the validation and test images, which the
network was not trained on. Those of training images must come out of fold: they are there where DIR is what `imgcls
probe`, in minutes, or `imgcls tune cv` has written. Wrong labels are found by confident learning. With --duplicates the
images of all splits are read too, and those that are the same, byte for byte or nearly, are listed, within a split and
across splits.

--csv writes everything, one row per image and reason: reason,split,file,class,suggested,probability,duplicate_of.

Examples:
  imgcls suspects --workdir runs/digits_cnn --csv suspects.csv
  imgcls probe photos && imgcls suspects --workdir runs/probe_photos
"""

import contextlib
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.config import Config
    from imgcls_jax.display.console import Console

_HEADER = ("reason", "split", "file", "class", "suggested", "probability", "duplicate_of")
_SHOWN = 10  # rows of a table that are printed

_Row = tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("--workdir", type=Path, required=True, help="the run's folder")
    parser.add_argument(
        "--top", type=flags.whole(1), default=50, metavar="N", help="top losses per split (default: 50)"
    )
    parser.add_argument("--duplicates", action="store_true", help="read all images, and list those that are the same")
    parser.add_argument("--csv", type=flags.result(".csv"), metavar="FILE", help="write all of them")
    options = parser.parse_args(arguments)
    folds = sorted(options.workdir.glob("fold*")) if flags.is_file(options.workdir / "cv.json") else []
    config = flags.saved_config(folds[0] if folds else options.workdir)

    from imgcls_jax.display import tables
    from imgcls_jax.display.console import Console
    from imgcls_jax.evaluation import predictions as keep
    from imgcls_jax.evaluation import suspects

    kept = [keep.load(path) for path in keep.kept(options.workdir)]
    if not kept:
        way = "logging.predictions=True" if folds else f"`imgcls evaluate --workdir {options.workdir}`"
        raise UserError(f"{options.workdir} has no predictions: {way} keeps them")
    console = Console()
    with outputs.writing(options.csv) if options.csv else contextlib.nullcontext() as file:
        rows: list[_Row] = []
        for made in kept:
            labels, losses = suspects.wrong_labels(made), suspects.top_losses(made, options.top)
            split = "train, out of fold" if made.split == "train" else made.split
            for title, found in ((f"probably wrong labels, {split}", labels), (f"top losses, {split}", losses)):
                lines = [
                    (s.class_name, s.suggested, f"{100 * s.probability:.3g} %", s.name) for s in found[:_SHOWN]
                ] or [("none", "", "", "")]
                header = ("label", "suggested", "probability of the label", "file")
                console.section(f"{title}: {len(found)}", tables.plain(header, lines, right=[2], indent="  "))
                rows += [
                    (s.reason, s.split, s.name, s.class_name, s.suggested, f"{s.probability:.6f}", "") for s in found
                ]
        if options.duplicates:
            rows += _duplicates(config, console)
        if file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_HEADER)
            writer.writerows(rows)


def _duplicates(config: "Config", console: "Console") -> list[_Row]:
    """Print the groups of images that are the same; return a row for each image but the first of its group."""
    from imgcls_jax import data
    from imgcls_jax.data import pixels
    from imgcls_jax.display import tables

    dataset = data.load(config.data)
    splits = dataset.splits
    same = pixels.same_content(splits, data.no_progress)
    near: list[list[pixels.Place]] = []
    if pixels.can_be_compared(splits):
        near = pixels.near_places(splits, [pixels.scan(split) for split in splits], same)
    rows: list[_Row] = []
    for reason, groups in (("exact duplicate", same), ("near duplicate", near)):
        for first, *others in groups:
            original = f"{splits[first[0]].name}:{splits[first[0]].ids[first[1]]}"
            for number, row in others:
                split = splits[number]
                class_name = dataset.class_names[int(split.labels[row])]
                rows.append((reason, split.name, split.ids[row], class_name, "", "", original))
    lines = [(row[0], row[3], f"{row[1]}:{row[2]}", row[6]) for row in rows[:_SHOWN]] or [("none", "", "", "")]
    header = ("", "label", "image", "the same as")
    console.section(f"duplicates: {len(rows)}", tables.plain(header, lines, indent="  "))
    if not pixels.can_be_compared(splits):
        console.line(f"images below {pixels.THUMBNAIL} pixels are compared byte for byte only")
    return rows
