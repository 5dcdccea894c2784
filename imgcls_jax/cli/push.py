"""Publish a run: weights, config, model card, and ONNX.

RUN is a run's folder, or a folder that this command wrote before, whose model card you may have edited. TARGET is a
new or empty folder, or hf://OWNER/NAME, a repository of Hugging Face, which is made if need be (needs
imgcls_jax[hub], and a token: `hf auth login`). What it holds:

  model.safetensors  the weights, with class names, preprocessing, golden images
  config.json        the run's config
  README.md          the model card, with the figures of the run's result.json
  model.onnx         where the package onnx is installed

The config names the folder of the data as you wrote it. --license is an identifier of Hugging Face's list; without it
the model card says what is known of the weights.

Examples:
  imgcls push runs/digits_cnn published/digits --license apache-2.0
  imgcls push published/digits hf://OWNER/digits --private
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.export.hub.remote import Repository


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run's folder, or a folder that was pushed to")
    parser.add_argument("target", type=_target, metavar="TARGET", help="a folder, or hf://OWNER/NAME")
    parser.add_argument("--license", metavar="ID", help="license of the weights, such as apache-2.0")
    parser.add_argument("--private", action="store_true", help="make a new repository that only its owner sees")
    options = parser.parse_args(arguments)

    from imgcls_jax.export.hub import folder, remote

    repository = remote.repository_of(options.target)
    if options.private and not repository:
        parser.error("--private is for a repository, hf://OWNER/NAME")
    if folder.is_published(options.run):
        if options.license:
            parser.error(f"--license: {options.run} has a model card; write the license into its README.md")
        folder.document(options.run)
        if repository:
            remote.create(repository, private=options.private)
            _upload(options.run, repository)
        else:
            folder.check_target(Path(options.target))
            folder.copy(options.run, Path(options.target))
            _list(Path(options.target))
        return
    flags.saved_config(options.run)
    if repository:
        remote.create(repository, private=options.private)  # before the work
        with tempfile.TemporaryDirectory() as staged:
            _write(options.run, Path(staged), str(repository), options.license)
            _upload(Path(staged), repository)
    else:
        folder.check_target(Path(options.target))
        _write(options.run, Path(options.target), None, options.license)
        _list(Path(options.target))


def _write(run: Path, target: Path, source: str | None, license: str | None) -> None:
    from imgcls_jax.display.console import Console
    from imgcls_jax.export.hub import folder
    from imgcls_jax.inference import restore
    from imgcls_jax.report import record
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console()
    trained = restore.of_run(run)
    for note in trained.notes:
        console.line(f"note: {note}")
    with console.wait("exporting"):
        program = trained.program(trained.config.test_views)
        notes = folder.write(program, target, result=record.result(run), source=source, license=license)
    for note in notes:
        console.line(f"note: {note}")


def _upload(published: Path, repository: "Repository") -> None:
    from imgcls_jax.display.console import Console
    from imgcls_jax.export.hub import folder, remote

    page = remote.upload(published, folder.present(published), repository)
    Console().line(f"{page}\nload it by Classifier.load({str(repository)!r}), or imgcls pull {repository}")


def _list(published: Path) -> None:
    from imgcls_jax.display.console import Console
    from imgcls_jax.export.hub import folder

    for name in folder.present(published):
        Console().line(f"{published / name}  {(published / name).stat().st_size / 1e6:.2f} MB")


def _target(text: str) -> str:
    if not text.strip():
        raise UserError("TARGET is empty: was it written with a variable that is not set?")
    return text
