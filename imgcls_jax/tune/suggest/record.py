"""Keep the chosen config in the work directory, and go on with it."""

from pathlib import Path

from imgcls_jax.config import Config, Source, io
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError, short
from imgcls_jax.record import continuing
from imgcls_jax.record.json_files import write_json
from imgcls_jax.record.lock import locked
from imgcls_jax.record.workdir import claimed

FILE = "config.py"
"""The config of the run as Python, in its work directory."""


def recorded(workdir: Path) -> Config | None:
    """Return the config that was chosen for the run in a folder; None if there is no such run."""
    return io.load(workdir / FILE) if (workdir / FILE).is_file() and (workdir / "config.json").is_file() else None


def begin(workdir: Path, config: Config, text: str | None, *, overwrite: bool) -> str | None:
    """Make a folder a run's with this config, and write the config's file into it.

    A run of the same config is continued, one whose epochs alone have grown as well.

    Args:
      workdir: the folder.
      config: the chosen config.
      text: the file that gives it; None: it is the one that is there.
      overwrite: move a used folder aside.

    Returns:
      What more epochs do to the learning rate; None where they are as they were.

    Raises:
      UserError: the folder holds another run.
    """
    before = None if overwrite else recorded(workdir)
    saved = None if before is None else io.restore(workdir / "config.json")
    if before is not None and saved is not None and before not in (saved, config):
        raise UserError(
            f"{workdir / FILE} was changed since its run began ({io.difference(saved, before)[0]}): train it by "
            "--config into another --workdir, or --overwrite to move the run aside"
        )
    said = _grown(saved, config) if saved is not None else None
    with locked(workdir) if said else claimed(workdir, config, overwrite=overwrite):
        if said:
            write_json(workdir / "config.json", io.document(config))
        if text is not None and before != config:
            outputs.write_text(workdir / FILE, text)
    return said


def _grown(before: Config, config: Config) -> str | None:
    """Say what more epochs do, where they alone have changed."""
    if not continuing.grows(before, config):
        return None
    was, more = before.epochs, config.epochs
    rate_was, rate_more = (rates[-1] for rates in continuing.rates(before, config))
    return (
        f"epochs grow from {was} to {more}: from here on the learning rate is that of a training of {more} epochs, at "
        f"the end of epoch {was} {rate_more:.1e} in place of {rate_was:.1e}; a training of {more} from the start would "
        "end otherwise"
    )


def refuse_own_data(workdir: Path, data: str) -> None:
    """Raise UserError if a work directory would be the folder of the images, or in it, or around it."""
    ours, theirs = workdir.resolve(), Path(data).expanduser().resolve()
    if theirs.exists() and (ours.is_relative_to(theirs) or theirs.is_relative_to(ours)):
        raise UserError(
            f"the work directory {workdir} and the images in {data} share a folder: choose another --workdir"
        )


def refuse_other_data(workdir: Path, before: Config, source: Source) -> None:
    """Raise UserError if a run is one of other images."""
    if before.data.source != source:
        raise UserError(
            f"{workdir} holds a run on other images ({short(before.data.source)}): choose another --workdir, "
            "or --overwrite to move it aside"
        )
