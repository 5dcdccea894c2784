"""Download and prepare sets of the tfds catalog, without TensorFlow.

  imgcls data list             the sets, their sizes and terms, and which are prepared
  imgcls data prepare NAME     download, verify and write one, or go on where it was interrupted
  imgcls data verify NAME      read every image of one

A config whose set is not there prepares it by itself. Sets lie in --data-dir, else $TFDS_DATA_DIR, else
~/tensorflow_datasets. $IMGCLS_OFFLINE=1 forbids downloads; HTTPS_PROXY and NO_PROXY are respected.

Examples:
  imgcls data list
  imgcls data prepare cifar100
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError, did_you_mean


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("action", choices=("list", "prepare", "verify"), help="what to do")
    parser.add_argument("name", nargs="?", help="the set, such as cifar100 or imagenette/320px-v2")
    parser.add_argument("--data-dir", type=Path, help="folder of the sets")
    options = parser.parse_args(arguments)
    if (options.action == "list") != (options.name is None):
        wants = "takes no NAME" if options.name else "needs the NAME of a set; `imgcls data list` shows them"
        raise UserError(f"imgcls data {options.action} {wants}")

    from imgcls_jax.data.sources.tfds import default_folder

    folder = options.data_dir.expanduser() if options.data_dir else default_folder()
    if options.action == "list":
        _list(folder)
    elif options.action == "prepare":
        _prepare(options.name, folder)
    else:
        _verify(options.name, folder)


def _list(folder: Path) -> None:
    """Print the sets and their terms."""
    from imgcls_jax.data.catalog.entries import ENTRIES
    from imgcls_jax.data.sources.tfds import is_prepared
    from imgcls_jax.display.console import Console

    console = Console()
    for name, entry in ENTRIES.items():
        images = ", ".join(f"{count:,} {split}" for split, count in entry.images.items())
        state = f"prepared in {folder}" if is_prepared(name, folder) else "not prepared"
        console.table(name, {"images": images, "size": entry.archives, "terms": entry.terms, "state": state})


def _prepare(name: str, folder: Path) -> None:
    """Make a set, unless it is there."""
    from imgcls_jax.data.catalog.entries import ENTRIES, base_name
    from imgcls_jax.data.catalog.prepare import prepare
    from imgcls_jax.data.sources.tfds import can_prepare, is_prepared, prepared_builder
    from imgcls_jax.display.console import Console

    console = Console()
    if is_prepared(name, folder):
        console.line(f"{name} is already prepared in {folder}")
        return
    if not can_prepare(name):
        import tensorflow_datasets as tfds

        hint = did_you_mean(base_name(name), ENTRIES)
        if hint:
            raise UserError(f"{name} is none of the sets of `imgcls data list`{hint}")
        prepared_builder(tfds, name, folder)  # says what to do
        return
    with console.wait(f"preparing {name}") as wait:
        prepare(name, folder, wait.on_progress)


def _verify(name: str, folder: Path) -> None:
    """Read all of a set."""
    from imgcls_jax.data.catalog.verify import verify
    from imgcls_jax.display.console import Console

    console = Console()
    with console.wait(f"reading {name}") as wait:
        found = verify(name, folder, wait.on_progress)
    images = ", ".join(f"{count:,} {split}" for split, count in found.images.items())
    console.line(f"{name} is whole: {images} images of {found.classes} classes in {found.folder}")
