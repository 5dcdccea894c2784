"""Measure what the features of a pretrained network are worth on your images: the bar for every fine-tuning.

DATA is a folder of images (train/CLASS/…, val/CLASS/…, or CLASS/… alone, of which a fifth is held out for the test), a
table of files and classes, an .npz file of arrays or the name of a tfds set. In place of DATA and --weights, --config
FILE.py takes both from a config.

Every image goes through the frozen network once; the features stay in the cache. Then a linear head with L2
regularization is fitted to those of the training images along a path of strengths, and nearest neighbors vote beside
it; cross-validation on the training images chooses the strength and the number of neighbors. The folder of the run
holds the linear head and works like any other: imgcls evaluate, imgcls predict.

Examples:
  imgcls probe photos
  imgcls probe photos --weights efficientnet_lite/lite2 --workdir runs/photos
  imgcls probe --config configs/imagenette_r18.py --config.transfer.init_from=torchvision/resnet18.IMAGENET1K_V1
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.config import Config
    from imgcls_jax.data import Progress
    from imgcls_jax.display.console import Console
    from imgcls_jax.tune.probe.probe import Probe

_WEIGHTS = "efficientnet_lite/lite0"
_TEST_SHARE = 0.2


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="a folder of images, a table, an .npz file, a tfds name"
    )
    parser.add_argument("--weights", help=f"published weights (docs/models.md); default: {_WEIGHTS}")
    parser.add_argument(
        "--image-size",
        type=flags.whole(8, 2048),
        metavar="PIXELS",
        help="side of what the network sees; default: that of the weights",
    )
    parser.add_argument("--workdir", type=Path, help="folder of the run; default: runs/probe_NAME")
    parser.add_argument("--overwrite", action="store_true", help="move a used folder aside")
    strength = flags.number(0, exclusive=True)
    parser.add_argument(
        "--strengths", type=strength, nargs="+", metavar="L2", help="to be tried (default: 32 to 0.003)"
    )
    parser.add_argument("--folds", type=flags.whole(2, 100), default=5, help="of the cross-validation (default: 5)")
    options = parser.parse_args(arguments)
    if (options.data is None) == (options.config is None):
        raise UserError("say what to probe: DATA, such as a folder of images, or --config FILE.py")
    if options.config is not None:
        if options.weights or options.image_size:
            raise UserError(
                "with --config, the weights are --config.transfer.init_from=… and the size is "
                "--config.data.image_size=…"
            )
        config = flags.config_of(options)
    else:
        from imgcls_jax.config import io
        from imgcls_jax.display.console import Console

        with Console().wait("opening the data") as wait:
            config = _config(options.data, options.weights or _WEIGHTS, options.image_size, wait.on_progress)
        config = io.override(config, options.overrides)
        flags.describe_if_asked(config, options)

    from imgcls_jax.display.console import Console
    from imgcls_jax.tune.probe import heads
    from imgcls_jax.tune.probe.probe import probe
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console()
    workdir = options.workdir or Path("runs") / f"probe_{config.name}"
    with console.wait("probing") as wait:
        found = probe(
            config,
            workdir,
            strengths=options.strengths or heads.STRENGTHS,
            folds=options.folds,
            overwrite=options.overwrite,
            on_progress=wait.on_progress,
            command=flags.typed(arguments),
        )
    _show(console, found, workdir)


def _config(path: str, name: str, side: int | None, on_progress: "Progress") -> "Config":
    """Make the config of published weights on some images; a fifth is held out for the test where no split is."""
    from imgcls_jax.tune import suggest

    source = suggest.source_of(path, on_progress=on_progress)
    config = suggest.pretrained(source, name, side, title=suggest.name_of(source))
    splits = source.open(None, on_progress)
    if splits.test is not None or splits.validation is not None:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, test_share=_TEST_SHARE))


def _show(console: "Console", found: "Probe", workdir: Path) -> None:
    from imgcls_jax.display import tables
    from imgcls_jax.display.console import duration, percent
    from imgcls_jax.training import summary
    from imgcls_jax.tune.probe import heads

    chosen, vote = heads.best(found.strengths), heads.best(found.neighbors)
    rows = [
        (what, f"{choice.value:g}", percent(choice.top1), f"± {100 * choice.std:.1f}", mark if choice == best else "")
        for what, choices, best, mark in (
            ("L2 strength", found.strengths, chosen, "best"),
            ("nearest neighbors", found.neighbors, vote, "best"),
        )
        for choice in choices
    ]
    console.section(
        f"cross-validation, {found.folds} folds",
        tables.plain(("", "", "top-1", "", ""), rows, right=[1, 2, 3], indent="  "),
    )
    table = {}
    for split in ("validation", "test"):
        if figures := found.result[split]:
            table[split] = summary.metrics(figures)
            table[f"{split}, {vote.value:g} nearest neighbors"] = f"top-1 {percent(found.nearest[split])}"
    seconds = found.seconds
    table["features"] = (
        f"{found.num_features:,} per image, {duration(seconds['features'])}; heads {duration(seconds['heads'])}"
    )
    table["files"] = f"{workdir}/: result.json, checkpoints/"
    console.table("probe", table)
    if chosen in (found.strengths[0], found.strengths[-1]) and len(found.strengths) > 1:
        console.table("note", {"": "the best strength is at an end of the path: try more beyond it (--strengths)"})
    if not found.converged:
        console.table("note", {"": "the fit did not reach its minimum: the strength is too low for these features"})
