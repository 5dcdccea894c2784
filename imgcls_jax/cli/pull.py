"""Fetch a published run into a folder.

SOURCE is hf://OWNER/NAME, a repository of Hugging Face, or hf://OWNER/NAME@REVISION (a branch, a tag or a commit;
needs imgcls_jax[hub]), or a folder that `imgcls push` wrote. What was downloaded stays in the cache of huggingface_hub;
with $IMGCLS_OFFLINE=1 or $HF_HUB_OFFLINE=1 it is taken from there. No code of a repository is run.

The folder then takes the place of a run's: `imgcls predict --workdir FOLDER`, `Classifier.load(FOLDER)`.

Examples:
  imgcls pull hf://OWNER/digits
  imgcls pull hf://OWNER/digits@v1.0 runs/digits
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("source", metavar="SOURCE", help="hf://OWNER/NAME, or a folder that was pushed to")
    parser.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="where to (default: NAME, here)")
    options = parser.parse_args(arguments)

    from imgcls_jax.display.console import Console
    from imgcls_jax.export.hub import folder, remote

    repository = remote.repository_of(options.source)
    target = options.folder or (Path(repository.name.rpartition("/")[2]) if repository else None)
    if target is None:
        parser.error("FOLDER is missing: say where to copy a folder to")
    if not repository and not folder.is_published(options.source):
        raise UserError(
            f"{options.source} is no published run: give hf://OWNER/NAME, or a folder that imgcls push wrote"
        )
    folder.check_target(target)
    published = remote.download(repository, folder.FILES, need=folder.WEIGHTS) if repository else Path(options.source)
    folder.copy(published, target)
    for name in folder.present(target):
        Console().line(f"{target / name}  {(target / name).stat().st_size / 1e6:.2f} MB")
