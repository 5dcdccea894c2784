"""Write a run's figures to Trackio: on this machine, or where its own environment variables say."""

import secrets
from pathlib import Path
from typing import Any

from imgcls_jax.errors import UserError
from imgcls_jax.training.callbacks import identity
from imgcls_jax.training.callbacks.logger import ServiceRun


def check() -> None:
    """Raise UserError where Trackio is not installed."""
    try:
        import trackio  # noqa: F401
    except ImportError:
        raise UserError("logging.trackio_project is set but Trackio is not installed: pip install trackio") from None


class Trackio(ServiceRun):
    """A run of Trackio; it goes on in the same one after a restart."""

    name = "Trackio"

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
        begun = trackio.init(
            project, name=run, config=tree, resume="allow", embed=False, auto_log_cpu=False, auto_log_gpu=False
        )
        super().__init__(begun, trackio.Image)


def _plain(name: str) -> str:
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in name)
