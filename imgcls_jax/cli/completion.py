"""Completion by the Tab key (argcomplete): of commands, of flags, and of the settings of the config on the line."""

import argparse
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from imgcls_jax.errors import UserError

if TYPE_CHECKING:
    from imgcls_jax.cli.flags import Parser


def complete_command(names: Iterable[str]) -> str:
    """Return the command of these that the line to be completed names, or complete its name and end the process."""
    import argcomplete

    names = list(names)
    words, place = os.environ.get("COMP_LINE", "").split(" "), int(os.environ["_ARGCOMPLETE"])
    if len(words) > place + 1 and words[place] in names:
        os.environ["_ARGCOMPLETE"] = str(place + 1)  # the words before are not the command's
        return words[place]
    chooser = argparse.ArgumentParser()
    chooser.add_argument("command", choices=names)
    argcomplete.autocomplete(chooser)
    raise SystemExit


def complete(parser: "Parser") -> None:
    """Answer a shell that asks for completions (argcomplete), and end the process; settings of the config included."""
    import argcomplete

    line = os.environ.get("COMP_LINE", "")
    named = re.search(r"--config[= ]([^ ]+)", line)
    if parser.takes_config and named and "--config." in line:
        from imgcls_jax.config import io, tree

        try:
            config = io.load(named[1])
        except UserError:
            config = None
        for path, _ in tree.leaves(tree.to_tree(config)) if config else ():
            parser.add_argument(f"--config.{path.removesuffix('.kind')}=", dest="_", help="a setting")
    argcomplete.autocomplete(parser)
