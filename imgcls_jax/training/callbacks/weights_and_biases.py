"""Write a run's figures to Weights & Biases, whose own environment variables are respected."""

import os
import secrets
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import Result
from imgcls_jax.training.callbacks import identity
from imgcls_jax.training.callbacks.logger import AnyRecord, Logger, figures, final

Mode = Literal["online", "offline", "disabled"]


def mode() -> Mode:
    """Return what $WANDB_MODE and $WANDB_DISABLED ask for: "online" by default."""
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes", "on"):
        return "disabled"
    return {"disabled": "disabled", "offline": "offline", "dryrun": "offline"}.get(  # type: ignore[return-value]
        os.environ.get("WANDB_MODE", "").lower(), "online"
    )


def check() -> None:
    """Raise UserError where Weights & Biases is not installed, or online and has no key; unless it is disabled."""
    if mode() == "disabled":
        return
    try:
        import wandb
    except ImportError:
        raise UserError(
            "logging.wandb_project is set but Weights & Biases is not installed: pip install wandb, or set "
            "WANDB_MODE=disabled"
        ) from None
    if mode() == "online" and not (os.environ.get("WANDB_API_KEY") or wandb.api.api_key):
        raise UserError(
            "Weights & Biases has no API key: run `wandb login`, or set WANDB_MODE=offline, or WANDB_MODE=disabled"
        )


class WandB(Logger):
    """A run of Weights & Biases; it goes on in the same one after a restart. Figures are over the steps."""

    name, is_service = "Weights & Biases", True

    def __init__(self, project: str, name: str, tree: dict[str, Any], workdir: Path):
        check()
        import wandb

        path = workdir / "wandb_id"
        known = identity.known(path) or identity.keep(path, secrets.token_hex(4))
        self._run = wandb.init(project=project, name=name, id=known, resume="allow", config=tree, dir=str(workdir))

    def write(self, record: AnyRecord) -> None:
        self._run.log(figures(record), step=record["step"])

    def finish(self, result: Result) -> None:
        self._run.log(final(result), step=result["history"][-1]["step"])

    def picture(self, name: str, image: Image.Image, *, epoch: int, step: int) -> None:
        import wandb

        self._run.log({name: wandb.Image(image)}, step=step)

    def close(self) -> None:
        self._run.finish()
