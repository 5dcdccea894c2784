"""The page's own files, and what it must know of a model. Needs Pillow alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import PIL

from imgcls_jax.export import batches

FOLDER = Path(__file__).parent / "files"
"""HTML, CSS and JavaScript, to read."""
RUNTIME = "onnxruntime-web 1.30.0 (Microsoft, MIT license)"
"""What runs the model in the browser."""


def description(about: Mapping[str, Any], name: str, where: Literal["browser", "server"]) -> dict[str, Any]:
    """Say what the page must know of a model.

    Args:
      about: the document of its exported file.
      name: the page's title.
      where: what runs the model.
    """
    return {
        "name": name,
        "where": where,
        "class_names": about["class_names"],
        # The version whose resizing the page repeats: this environment's.
        "preprocessing": {**about["preprocessing"], "pillow": int(PIL.__version__.partition(".")[0])},
        "task": about.get("task", "classes"),
        "temperature": about["temperature"],
        "thresholds": batches.thresholds(about),
        "license": about["license"],
        "version": about["imgcls_jax"]["version"],
        "written": about["imgcls_jax"]["written"],
        **({"runtime": RUNTIME} if where == "browser" else {}),
    }
