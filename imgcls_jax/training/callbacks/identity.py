"""Keep the name under which a service knows a run, so that a run that goes on stays one run there."""

import re
from pathlib import Path

from imgcls_jax.disk import outputs


def known(path: Path) -> str | None:
    """Return the name that a file of the work directory keeps; None where there is none, or it is damaged."""
    text = path.read_bytes().decode("ascii", "replace") if path.exists() else ""
    return text if re.fullmatch(r"[\w-]{1,64}", text) else None


def keep(path: Path, name: str) -> str:
    """Keep a name in a file, and return it."""
    outputs.write_text(path, name)
    return name
