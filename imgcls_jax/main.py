"""`python -m imgcls_jax.main …` is `imgcls train …`."""

import sys

from imgcls_jax.cli import app, flags
from imgcls_jax.cli.train import main

__all__ = ["main"]

if __name__ == "__main__":
    flags.run(lambda: app.run_command("train", sys.argv[1:], program="python -m imgcls_jax.main"))
