"""Locate the folder of everything that can be made or downloaded again."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Return the folder of all caches: $IMGCLS_CACHE, else the user's cache folder of the operating system.

    On Linux that is `~/.cache/imgcls_jax` ($XDG_CACHE_HOME is respected), on macOS `~/Library/Caches/imgcls_jax`, on
    Windows `%LOCALAPPDATA%\\imgcls_jax\\Cache`. Below it, `weights` holds downloaded weights, `canvases`
    decoded images, and `xla` compiled programs. It may be deleted at any time when nothing runs. It need not exist.
    """
    if folder := os.environ.get("IMGCLS_CACHE"):
        return Path(folder).expanduser()
    return platformdirs.user_cache_path("imgcls_jax", appauthor=False)
