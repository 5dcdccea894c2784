"""Write a run's figures to Weights & Biases, whose own environment variables are respected."""

import math
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from imgcls_jax import outputs
from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import EpochRecord

AnyRecord = Mapping[str, Any]
"""A record of any kind: see `record.documents`."""

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


class WandB:
    """A run of Weights & Biases; it goes on in the same one after a restart."""

    def __init__(self, project: str, name: str, tree: dict[str, Any], workdir: Path):
        check()
        import wandb

        identity = workdir / "wandb_id"
        known = identity.read_bytes().decode("ascii", "replace") if identity.exists() else ""
        if not re.fullmatch(r"[\w-]{1,64}", known):  # new, or damaged
            known = secrets.token_hex(4)
            outputs.write_text(identity, known)
        self._run = wandb.init(project=project, name=name, id=known, resume="allow", config=tree, dir=str(workdir))

    def go_back(self, epochs: list[EpochRecord], step: int) -> None:
        """Do nothing: Weights & Biases keeps what it has."""

    def write(self, record: AnyRecord) -> None:
        prefix = "" if record["kind"] == "epoch" else "steps/"
        self._run.log({prefix + name: value for name, value in scalars(record).items()}, step=record["step"])

    def close(self) -> None:
        self._run.finish()


def scalars(record: AnyRecord, prefix: str = "") -> dict[str, float]:
    """Return a record's finite numbers under names such as "validation/top1"."""
    flat: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            flat |= scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and math.isfinite(value) and prefix + key != "schema":
            flat[prefix + key] = value
    return flat
