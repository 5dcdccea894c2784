"""Whether a config's weights are on this machine, by loading's own code but without reading them."""

from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax import download, weights


def weights_problem(transfer: c.Transfer) -> str | None:
    """What stands in the way of the initial weights: they would have to be downloaded, or are not there; else None."""
    source = transfer.init_from
    if source is None:
        return None
    entry = weights.published().get(source)
    if entry is None:
        return None if Path(source).exists() else f"there is no weight file or run {source} (transfer.init_from)"
    target = download.cache_folder() / entry.file
    return None if target.is_file() else f"{source} would be downloaded from {entry.url} to {target}"
