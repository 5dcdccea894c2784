"""What every command's flags have in common: --config and its overrides, and how errors end the process."""

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from imgcls_jax import runtime
from imgcls_jax.config import files
from imgcls_jax.errors import UserError


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are a UserError, so that every mistake ends in the same one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message} (see --help)")


def parser(doc: str | None, *, config: bool = True) -> argparse.ArgumentParser:
    """A parser with the module's docstring as its help, and with --config unless `config` is False."""
    result = _Parser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    if config:
        result.add_argument("--config", metavar="FILE.py[:VARIANT]", help="the experiment's config file")
        result.add_argument(
            "--config.KEY",
            metavar="VALUE",
            dest="_",
            help="change one setting, as in --config.optim.schedule.peak=3e-4 or --config.model.convs[0].channels=16",
        )
        result.add_argument("--config.help", action="store_true", dest="config_help", help="list every setting")
    return result


def parse(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, *, config_required: bool = True
) -> tuple[argparse.Namespace, Any]:
    """The command's own options, and the config with its overrides; None without --config, where that is allowed."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    overrides, own = [], []
    while arguments:
        argument = arguments.pop(0)
        if argument.startswith("--config.") and argument != "--config.help":
            key = argument.removeprefix("--config.")
            if "=" not in key and arguments and not arguments[0].startswith("--"):
                key = f"{key}={arguments.pop(0)}"  # --config.KEY VALUE
            overrides.append(key)
        else:
            own.append(argument)
    options = parser.parse_args(own)
    if options.config is None and not config_required and not overrides:
        return options, None
    if options.config is None:
        raise UserError("--config is missing: give a config file, such as --config configs/digits_cnn.py")
    config = files.load(options.config, overrides)
    if options.config_help:
        print(files.describe(config))
        sys.exit(0)
    return options, config


def run(main: Callable[[], None]) -> None:
    """Run a command: a user's mistake becomes one line on stderr and status 2; Ctrl-C becomes status 130."""
    try:
        main()
    except UserError as error:
        _end(str(error))
    except (RuntimeError, AssertionError):
        # Wherever a command first asks for a device.
        no_device = runtime.missing_device()
        if no_device is None:
            raise
        _end(no_device)
    except KeyboardInterrupt:
        sys.exit(130)


def _end(mistake: str) -> NoReturn:
    print(f"error: {mistake}", file=sys.stderr)
    sys.exit(2)
