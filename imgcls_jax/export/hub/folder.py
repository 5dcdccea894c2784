"""The folder of a published run: what is in it, how it is written, copied and found."""

import importlib.util
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError
from imgcls_jax.export import files, standalone
from imgcls_jax.export.hub import card, remote
from imgcls_jax.export.program import Program
from imgcls_jax.record.documents import Result

WEIGHTS, CONFIG, README, ONNX = "model.safetensors", "config.json", "README.md", "model.onnx"
FILES = (WEIGHTS, CONFIG, README, ONNX)
"""What a published run consists of; the last one may be missing. Nothing else is uploaded, downloaded or copied."""


def is_published(folder: str | Path) -> bool:
    """Return whether a folder is a published run, and not the work directory of a run that was exported into it."""
    folder = Path(folder)
    return (folder / WEIGHTS).is_file() and not (folder / "checkpoints").exists()


def weights_of(repository: remote.Repository) -> Path:
    """Return the file of weights of a published run on Hugging Face, downloaded.

    Raises:
      UserError: the repository cannot be read, or holds no such file.
    """
    return remote.download(repository, [WEIGHTS], need=WEIGHTS) / WEIGHTS


def check_target(folder: Path) -> None:
    """Raise UserError unless a folder is missing, empty or a published run, so that nothing else is overwritten.

    Hidden files, such as .git, are no obstacle.
    """
    if folder.is_dir():
        others = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if others and not is_published(folder):
            raise UserError(f"{folder} holds other files, such as {min(others).name}: give a new or an empty folder")


def write(
    program: Program,
    folder: Path,
    *,
    result: Result | None = None,
    source: str | None = None,
    license: str | None = None,
) -> list[str]:
    """Write a published run: weights, config, model card, and ONNX where the package is installed.

    Args:
      program: the model.
      folder: where; see `check_target`.
      result: the figures of the model card.
      source: what the model card says to load; None: the folder.
      license: identifier of the license in the list of Hugging Face; None: what is known of the weights.

    Returns:
      Sentences on what is left out.

    Raises:
      UserError: the model cannot be exported, or a file not be written.
    """
    notes = []
    files.export(program, folder / WEIGHTS)
    _write_config(program.card["config"], folder)
    has_onnx = importlib.util.find_spec("onnx") is not None
    if has_onnx:
        try:
            files.export(program, folder / ONNX)
        except UserError as error:
            has_onnx = False
            notes.append(f"{ONNX} is left out: {error}")
    else:
        notes.append(f"{ONNX} is left out: it needs the package onnx (pip install 'imgcls_jax[onnx]')")
    if not has_onnx:  # an older one would be another model's
        (folder / ONNX).unlink(missing_ok=True)
    if result is None:
        notes.append("the model card has no figures: the run has no result.json yet")
    text = card.text(program, result, source=source or str(folder), onnx=ONNX if has_onnx else None, license=license)
    outputs.write_text(folder / README, text)
    return notes


def copy(published: Path, folder: Path) -> None:
    """Copy a published run; its weights are compared with their checksum, and its config is taken from them.

    Raises:
      UserError: the weights were not written by this package or have changed, or a file cannot be written.
    """
    if published.resolve() == folder.resolve():
        raise UserError(f"{published} cannot be copied to itself: give another folder")
    about = document(published)
    for name in FILES:
        if name not in present(published):  # an older one would be another model's
            (folder / name).unlink(missing_ok=True)
        elif name != CONFIG:
            _copy(published / name, folder / name)
    _write_config(about["model_card"]["config"], folder)


def document(published: Path) -> dict[str, Any]:
    """Return what the weights of a published run say of themselves.

    Raises:
      UserError: they were not written by this package, or have changed.
    """
    try:
        return standalone.document(published / WEIGHTS)
    except standalone.Unusable as error:
        raise UserError(str(error)) from None


def present(folder: Path) -> Sequence[str]:
    """Return which of the files of a published run a folder has."""
    return [name for name in FILES if (folder / name).is_file()]


def without_modules(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's document without the paths of the user's own modules: whoever publishes a model must not say
    which files of another machine are executed."""
    return {**config, "modules": {}}


def _write_config(config: Mapping[str, Any], folder: Path) -> None:
    outputs.write_text(folder / CONFIG, json.dumps(without_modules(config), indent=1) + "\n")


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, outputs.writing(target, binary=True) as file:
        shutil.copyfileobj(read, file)
