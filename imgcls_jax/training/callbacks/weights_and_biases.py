"""Write a run's figures to Weights & Biases, whose own environment variables are respected."""

import os
import secrets
from pathlib import Path
from typing import Any, Literal

from imgcls_jax.errors import UserError
from imgcls_jax.training.callbacks import identity
from imgcls_jax.training.callbacks.logger import ServiceRun

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


class WandB(ServiceRun):
    """A run of Weights & Biases; it goes on in the same one after a restart."""

    name = "Weights & Biases"

    def __init__(self, project: str, name: str, tree: dict[str, Any], workdir: Path):
        check()
        import wandb

        path = workdir / "wandb_id"
        known = identity.known(path) or identity.keep(path, secrets.token_hex(4))
        run = wandb.init(project=project, name=name, id=known, resume="allow", config=tree, dir=str(workdir))
        super().__init__(run, wandb.Image)
