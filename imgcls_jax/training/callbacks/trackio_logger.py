"""Write a run's figures to Trackio: on this machine, or where its own environment variables say."""

import secrets
from pathlib import Path
from typing import Any

from PIL import Image

from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import Result
from imgcls_jax.training.callbacks import identity
from imgcls_jax.training.callbacks.logger import AnyRecord, Logger, figures, final


def check() -> None:
    """Raise UserError where Trackio is not installed."""
    try:
        import trackio  # noqa: F401
    except ImportError:
        raise UserError("logging.trackio_project is set but Trackio is not installed: pip install trackio") from None


class Trackio(Logger):
    """A run of Trackio; it goes on in the same one after a restart. Figures are over the steps."""

    name, is_service = "Trackio", True

    def __init__(self, project: str, name: str, tree: dict[str, Any], workdir: Path):
        """
        Args:
          project: its name; made where there is none.
          name: the beginning of the run's name, by which Trackio knows it.
          tree: the config.
          workdir: where the run's name is kept.
        """
        check()
        import trackio

        path = workdir / "trackio_name"
        # Trackio knows a run by its name alone; names of configs may have characters that a file's must not.
        run = identity.known(path) or identity.keep(path, f"{_plain(name)[:48]}-{secrets.token_hex(4)}")
        self._run = trackio.init(
            project, name=run, config=tree, resume="allow", embed=False, auto_log_cpu=False, auto_log_gpu=False
        )

    def write(self, record: AnyRecord) -> None:
        self._run.log(figures(record), step=record["step"])

    def finish(self, result: Result) -> None:
        self._run.log(final(result), step=result["history"][-1]["step"])

    def picture(self, name: str, image: Image.Image, *, epoch: int, step: int) -> None:
        import trackio

        self._run.log({name: trackio.Image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name)
