"""Compute the mean and standard deviation of the training images, and show what the data set holds.

Prints mean and std of each channel, ready to be pasted into c.Data(…), over the training images as the model gets them:
decoded, resized and cropped to the canvas, before augmentation. Then the images of each class and split, the sizes and
suffixes of the original training images, and the files that cannot be read.

Examples:
  imgcls stats photos --size 128
  imgcls stats --config configs/digits_cnn.py
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.display.console import Console
    from imgcls_jax.doctor.data_statistics import Stats

_LISTED = 10  # unreadable files that are printed
_CLASSES = 20  # classes that are printed one by one


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument("folder", nargs="?", help="folder of images, one sub-folder per class")
    parser.add_argument("--size", type=flags.whole(1, 16_384), help="side of the square canvas, pixels (default: 224)")
    parser.add_argument("--channels", type=int, choices=(1, 3), help="1: grayscale; 3: RGB (default)")
    options = parser.parse_args(arguments)
    config = flags.config_of(options) if options.config or options.overrides else None
    if config is not None and (options.folder or options.size or options.channels):
        raise UserError(
            "--config says where the images are and how they are fitted: leave out FOLDER, --size, --channels"
        )
    if config is None and options.folder is None:
        raise UserError("say which images: imgcls stats FOLDER, or imgcls stats --config FILE.py")

    from imgcls_jax.display.console import Console
    from imgcls_jax.doctor import data_statistics

    if config is not None:
        settings = config.data
    else:
        settings = data_statistics.of_folder(options.folder, size=options.size or 224, channels=options.channels or 3)
    console = Console()
    with console.wait("reading the images") as wait:
        stats = data_statistics.compute(settings, wait.on_progress)
    _show(stats, console)


def _show(stats: "Stats", console: "Console") -> None:
    """Print statistics, mean and std as Python."""
    console.line(f"mean={_numbers(stats.mean)}, std={_numbers(stats.std)}")
    if 0 in stats.std:
        console.line("a channel has the same value in every pixel: give 1 as its std, which must be greater than 0")
    for split, counts in stats.counts.items():
        console.table(f"{split}: {sum(counts.values())} images", _table(counts))
    rows = {
        "height": "least {}, median {:g}, greatest {}".format(*stats.heights),
        "width": "least {}, median {:g}, greatest {}".format(*stats.widths),
    }
    if stats.suffixes:
        rows["files"] = ", ".join(f"{count} {suffix}" for suffix, count in stats.suffixes.items())
    console.table("original training images, pixels", rows)
    if stats.bad:
        console.line(f"{len(stats.bad)} images cannot be read:")
        for image in stats.bad[:_LISTED]:
            console.line(f"  {image.path}: {image.reason}")
        if len(stats.bad) > _LISTED:
            console.line(f"  … and {len(stats.bad) - _LISTED} more")


def _numbers(values: tuple[float, ...]) -> str:
    """Write a Python tuple of numbers with four digits."""
    return f"({', '.join(f'{value:.4g}' for value in values)}{',' if len(values) == 1 else ''})"


def _table(counts: dict[str, int]) -> dict[str, int | str]:
    """The count of each class; of many classes only the least and the greatest."""
    if len(counts) <= _CLASSES:
        return dict(counts)
    least, greatest = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    return {
        "classes": len(counts),
        "fewest images": f"{counts[least]} ({least})",
        "most images": f"{counts[greatest]} ({greatest})",
    }
