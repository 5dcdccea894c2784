"""Train image classifiers in JAX: a folder or a config in, a trained and exactly evaluated classifier out.

    import imgcls_jax as ic

    config = ic.load_config("configs/digits_cnn.py", epochs=5)
    result = ic.train(config, "runs/digits")
    classifier = ic.Classifier.load("runs/digits")

Every name is imported when it is first used, so that importing the package imports neither JAX nor anything else.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgcls_jax import config
    from imgcls_jax.errors import UserError
    from imgcls_jax.inference import Classifier, evaluate
    from imgcls_jax.models import create_model, list_models
    from imgcls_jax.training.callbacks import Callback
    from imgcls_jax.training.loop import train
    from imgcls_jax.tune.suggest import suggest_config

    __version__: str

__all__ = [
    "Callback",
    "Classifier",
    "UserError",
    "__version__",
    "config",
    "create_model",
    "evaluate",
    "list_models",
    "load_config",
    "suggest_config",
    "train",
]

# The module in which each public name is defined.
_HOMES = {
    "Callback": "imgcls_jax.training.callbacks",
    "Classifier": "imgcls_jax.inference",
    "UserError": "imgcls_jax.errors",
    "create_model": "imgcls_jax.models",
    "evaluate": "imgcls_jax.inference",
    "list_models": "imgcls_jax.models",
    "suggest_config": "imgcls_jax.tune.suggest",
    "train": "imgcls_jax.training.loop",
}


def load_config(path: str | Path, overrides: Sequence[str] = (), **settings: Any) -> "config.Config":
    """Load the experiment of a config file, with some of its settings changed.

        >>> import imgcls_jax as ic
        >>> config = ic.load_config("configs/digits_cnn.py", ["optim.schedule.peak=0.05"], epochs=5)
        >>> config.epochs, config.optim.schedule.peak
        (5, 0.05)

    Args:
      path: the file, "FILE.py", or one variant of it, "FILE.py:VARIANT".
      overrides: settings as the command line takes them, "optim.schedule.peak=3e-4".
      settings: settings of the experiment itself, by name: a Python value or component each.

    Raises:
      UserError: there is no such file or setting, or a value that a setting cannot have.
    """
    from imgcls_jax.config import io

    return io.load(str(path), overrides, **settings)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("imgcls_jax")
    if name == "config":
        return importlib.import_module("imgcls_jax.config")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
