"""Whether a config's images and weights are on this machine, by loading's own code but without reading them."""

import os
from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax import weights
from imgcls_jax.data import tfds as tfds_sets
from imgcls_jax.data.folder import open_folder
from imgcls_jax.errors import UserError
from imgcls_jax.weights import download


def data_problem(source: c.TFDS | c.Folder | c.Arrays) -> str | None:
    """The sentence with which loading would refuse for lack of the data; None if it is there.

    A catalogue set is asked whether it is prepared, a folder is listed, a file must exist. No image is opened.
    """
    try:
        match source:
            case c.TFDS():
                _tfds(source)
            case c.Folder():
                open_folder(source)
            case c.Arrays():
                _file(source)
    except UserError as error:
        return str(error)
    return None


def _tfds(source: c.TFDS) -> None:
    if source.name.partition(":")[0] == tfds_sets.DIGITS:
        return  # comes with scikit-learn and is prepared when it is opened
    import tensorflow_datasets as tfds  # imported late: it takes seconds

    data_dir = Path(source.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    tfds_sets.prepared(tfds, source.name, data_dir)  # raises unless the set is prepared and can be read


def _file(source: c.Arrays) -> None:
    if source.path is None:
        raise UserError("the arrays are given from Python: this config cannot be run by a command")
    if not Path(source.path).expanduser().is_file():
        raise UserError(f"there is no file {source.path}")


def weights_problem(transfer: c.Transfer) -> str | None:
    """What stands in the way of the initial weights: they would have to be downloaded, or are not there; else None."""
    source = transfer.init_from
    if source is None:
        return None
    entry = weights.CATALOGUE.get(source)
    if entry is None:
        return None if Path(source).exists() else f"there is no weight file or run {source} (transfer.init_from)"
    target = download.cache_folder() / entry.file
    return None if target.is_file() else f"{source} would be downloaded from {entry.url} to {target}"
