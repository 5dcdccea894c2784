"""What the commands have in common: how their flags are read, which config they mean, and how mistakes end them."""

import argparse
import codecs
import contextlib
import contextvars
import dataclasses
import errno
import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from imgcls_jax.cli import completion, together
from imgcls_jax.errors import UserError, did_you_mean, short

if TYPE_CHECKING:
    from imgcls_jax.config import Config

VIEWS = ("center", "flip", "flip_shift", "five_crop", "ten_crop")
"""How an image may be seen; written out, as importing the config would take a while."""

_program: contextvars.ContextVar[str] = contextvars.ContextVar("program", default="imgcls")

# What is printed for characters that the terminal's encoding lacks.
_ASCII = {"×": "x", "−": "-", "–": "-", "—": "-", "…": "...", "≥": ">=", "≤": "<=", "→": "->", "±": "+-", "·": "*"}


def program() -> str:
    """Return the command as it was typed, such as "imgcls train"."""
    return _program.get()


@contextlib.contextmanager
def called(program: str) -> Iterator[None]:
    """Say, within it, how the command was typed."""
    token = _program.set(program)
    try:
        yield
    finally:
        _program.reset(token)


class Parser(argparse.ArgumentParser):
    """argparse, with mistakes as UserErrors, and with `--config.KEY=VALUE` where the command takes a config."""

    takes_config = False

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add a flag; a path that is given must not be empty."""
        if options.get("type") is Path:
            options["type"] = _path
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Read the flags; overrides of the config come back as the list `overrides`."""
        if "_ARGCOMPLETE" in os.environ:
            completion.complete(self)
        own, overrides, described = _take_overrides(sys.argv[1:] if args is None else args)
        if (overrides or described is not None) and not self.takes_config:
            flag = "--config.help" if described is not None else f"--config.{overrides[0].partition('=')[0]}"
            raise UserError(f"{self.prog} takes no config, so {flag} means nothing here (see {self.prog} --help)")
        options, unknown = self.parse_known_args(own, namespace)
        options.overrides, options.config_help = overrides, described
        if unknown:
            at = own.index(unknown[0]) if unknown[0] in own else len(own)
            self._refuse(unknown[0], own[at + 1] if at + 1 < len(own) else "VALUE", options)
        return options

    def _refuse(self, first: str, follows: str, options: argparse.Namespace) -> NoReturn:
        """Name the flag that the first argument without a meaning stands for, and what follows it."""
        if not first.startswith("-"):
            self.refuse_word(first)
        name, equals, value = first.lstrip("-").partition("=")
        value = value if equals else "VALUE" if follows.startswith("-") else follows
        flags = [flag.lstrip("-") for action in self._actions for flag in action.option_strings]
        near = re.search(r'"(.*)"', did_you_mean(name, [flag for flag in flags if "." not in flag]))
        if near:
            raise UserError(f'{self.prog} has no flag {first.partition("=")[0]} (did you mean "--{near[1]}"?)')
        path = _setting(name, options) if self.takes_config else None
        if path:
            raise UserError(
                f"{first.partition('=')[0]} is a setting of the config: write --config.{path}={shlex.quote(value)}"
            )
        raise UserError(f"{self.prog} has no flag {first.partition('=')[0]} (see {self.prog} --help)")

    def refuse_word(self, word: str) -> NoReturn:
        """Raise UserError for an argument without a flag, which names the flag that it may stand for."""
        known = {flag for action in self._actions for flag in action.option_strings}
        path, quoted = Path(word), shlex.quote(word)
        meaning = ""
        if "--config" in known and re.search(r"\.py(:.*)?$", word):
            meaning = f"write --config {quoted} for a config file"
        elif "--workdir" in known and is_file(path / "config.json"):
            meaning = f"write --workdir {quoted} for the folder of a run"
        elif "--config" in known and is_folder(path):
            meaning = (
                f"for a folder of images write --config FILE.py, where FILE.py is a config whose data come from a "
                f"folder, and --config.data.source.path={quoted}"
            )
        if not meaning:
            meaning = f"see {self.prog} --help"
        raise UserError(f"{short(word)} stands without a flag: {meaning}")


def parser(doc: str | None, *, config: bool = True) -> Parser:
    """Make the parser of a command.

    Args:
      doc: the module's docstring, which becomes the help.
      config: whether the command takes --config and its overrides.
    """
    result = Parser(
        prog=program(),
        description=_wrapped(doc or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    result.takes_config = config
    if config:
        result.add_argument("--config", metavar="FILE.py[:VARIANT]", help="the config file of the experiment")
        result.add_argument(
            "--config.KEY",
            metavar="VALUE",
            dest="_",
            help="change one setting, as in --config.epochs=5 or --config.optim.optimizer=Adam",
        )
        result.add_argument(
            "--config.help",
            metavar="PART",
            dest="_",
            help="list every setting, or those of a part: --config.help=optim",
        )
    return result


def _wrapped(doc: str) -> str:
    """The paragraphs of a docstring in the terminal's width; indented lines, such as examples, as they are."""
    width = min(shutil.get_terminal_size().columns, 100) - 2
    paragraphs = []
    for paragraph in doc.strip("\n").split("\n\n"):
        text = textwrap.fill(paragraph, width, break_on_hyphens=False, break_long_words=False)
        paragraphs.append(paragraph if re.search("^ ", paragraph, re.MULTILINE) else text)
    return "\n\n".join(paragraphs).rstrip()


def config_of(options: argparse.Namespace) -> "Config":
    """Return the config that --config names, with its overrides.

    Raises:
      UserError: --config is missing, or something in the config is wrong.
    """
    from imgcls_jax.config import io

    if options.config is None:
        raise UserError("--config is missing: give a config file, such as --config configs/digits_cnn.py")
    config = io.load(options.config, options.overrides)
    describe_if_asked(config, options)
    return config


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a command that takes a finished run or weights works on."""

    config: "Config"
    """With the overrides of the command line."""
    weights: str | None
    """A file or a published name; None: the checkpoint of the run, or none."""
    run: Path | None
    """The folder of the run; None where the config came from a file alone."""

    @property
    def source(self) -> str | Path:
        """Where the trained weights are."""
        source = self.weights or self.run
        assert source is not None, "asked for with needs_weights"
        return source


def subject_of(options: argparse.Namespace, *, needs_weights: bool = True, exported: bool = False) -> Subject:
    """Return what --workdir, --config and --weights mean together.

    --workdir RUN: the run's own config and checkpoint; with `exported` also a file that was exported of one.
    --config FILE --weights FILE|NAME: weights from elsewhere, with --workdir as the folder of the results.
    --config FILE, where `needs_weights` is False: the config alone. Overrides (--config.KEY=VALUE) change whichever
    config it is.

    Raises:
      UserError: they contradict each other or something is missing; the message names the flags that are right.
    """
    from imgcls_jax.config import io

    weights, workdir = getattr(options, "weights", None), options.workdir
    if weights and options.config is None:
        raise UserError("--weights needs --config FILE.py, which says for which model and data the weights are")
    if options.config is None and workdir is None:
        ways = "--config FILE.py with --weights FILE|NAME" if needs_weights else "--config FILE.py"
        raise UserError(f"say what to work on: give --workdir RUN, the folder of a run, or {ways}")
    if options.config is not None and (weights or workdir is None):
        config = io.load(options.config, options.overrides)
        describe_if_asked(config, options)
        if weights is None and needs_weights:
            raise UserError(
                "a config alone has no trained weights: add --weights FILE|NAME, or give --workdir RUN, the folder of "
                "a run, in place of --config"
            )
        return Subject(config, weights, None)
    saved = saved_config(workdir, exported=exported)
    if options.config is not None and (changed := io.difference(saved, io.load(options.config))):
        raise UserError(
            f"{workdir} is a run of another config than {options.config} ({changed[0]}{', …' if changed[1:] else ''}): "
            "leave --config out, and change settings of the run by --config.KEY=VALUE"
        )
    config = io.override(saved, options.overrides)
    describe_if_asked(config, options)
    return Subject(config, None, workdir)


def saved_config(workdir: Path, *, exported: bool = False) -> "Config":
    """Return the config of the run in a folder, or with `exported` also of the run that a file was exported from.

    Raises:
      UserError: it is no run's; the message names one whose name is near.
    """
    from imgcls_jax.config import io

    if exported and is_file(workdir):
        from imgcls_jax.export import standalone

        try:
            return io.from_document(standalone.document(workdir)["model_card"]["config"], str(workdir))
        except standalone.Unusable as error:
            raise UserError(str(error)) from None
    if found := re.fullmatch(r"hf:/+(.*)", str(workdir)):  # pathlib makes one slash of two
        repository = f"hf://{found[1]}"
        raise UserError(f"{repository} is on Hugging Face: fetch it first, by `imgcls pull {repository} FOLDER`")
    if is_folder(workdir) and not is_file(workdir / "config.json"):
        raise UserError(f"{workdir} is not the folder of a run: it has no config.json")
    if not is_folder(workdir):
        parent = workdir.parent
        runs = [folder.name for folder in parent.iterdir() if folder.is_dir()] if is_folder(parent) else []
        raise UserError(f"there is no run {short(str(workdir))[1:-1]}{did_you_mean(workdir.name, runs)}")
    return io.restore(workdir / "config.json")


def describe_if_asked(config: "Config", options: argparse.Namespace) -> None:
    """For --config.help, print the help of the config, or of a part of it, and end the process."""
    if options.config_help is None:
        return
    from imgcls_jax.config.describe import describe

    print(describe(config, options.config_help, width=shutil.get_terminal_size().columns))
    sys.exit(0)


def typed(arguments: Sequence[str] | None, *, without: Sequence[str] = ()) -> str:
    """Return the command line as it was typed, for the user to type again."""
    given = sys.argv[1:] if arguments is None else arguments
    return f"{program()} {shlex.join(argument for argument in given if argument not in without)}".strip()


def whole(least: int, most: int = 10**9) -> Callable[[str], int]:
    """Make the `type` of a flag whose value is a whole number within limits."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9_]{1,30}", text) or not least <= (value := _int(text)) <= most:
            above = f" of at most {most:,}" if re.fullmatch(r"\+?[0-9_]+", text) and _int(text) > most else ""
            raise argparse.ArgumentTypeError(f"must be a whole number of at least {least}{above}, not {short(text)}")
        return value

    return read


def number(least: int | float, *, exclusive: bool = False) -> Callable[[str], float]:
    """Make the `type` of a flag whose value is a finite number of at least, or above, a limit."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not (least < value if exclusive else least <= value) or value == float("inf"):
            raise argparse.ArgumentTypeError(
                f"must be a number {'above' if exclusive else 'of at least'} {least:g}, not {short(text)}"
            )
        return value

    return read


def _path(text: str) -> Path:
    if not text.strip():  # Path("") would be the current folder
        raise argparse.ArgumentTypeError("the path is empty: was it written with a variable that is not set?")
    return Path(text)


def result(*suffixes: str) -> Callable[[str], Path]:
    """Make the `type` of a flag that names a file to be written, which takes the place of none of another kind."""

    def read(text: str) -> Path:
        path = _path(text)
        if is_file(path) and path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(
                f"{short(text)[1:-1]} is there, and no {suffixes[0]} file, so that it is not overwritten: give another "
                "name"
            )
        return path

    return read


def run(main: Callable[[], None]) -> None:
    """Run a command: a user's mistake becomes one line on stderr and status 2; Ctrl-C becomes status 130, and another
    signal the status that it asks for."""
    _use_any_encoding()
    try:
        _run(main)
    except BaseException as error:
        together.end(error)
        raise
    together.end(None)


def _run(main: Callable[[], None]) -> None:
    try:
        main()
        sys.stdout.flush()
    except UserError as error:
        _end(str(error))
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _end(
            f"the disk is full{f', writing {error.filename}' if error.filename else ''}: free some space and try again"
        )
    except (RuntimeError, AssertionError):
        from imgcls_jax.xla import runtime

        # Wherever a command first asks for a device.
        no_device = runtime.missing_device() if "jax" in sys.modules else None
        if no_device is None:
            raise
        _end(no_device)
    except KeyboardInterrupt as interruption:
        sys.exit(getattr(interruption, "status", 130))


def _end(mistake: str) -> NoReturn:
    together.print_error(mistake)
    raise together.Mistaken(mistake)


def _use_any_encoding() -> None:
    """Print what a console without Unicode can show of a character, rather than fail at it."""

    def similar(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeEncodeError)
        character = error.object[error.start]
        if "\udc80" <= character <= "\udcff" and error.encoding == "utf-8":
            return bytes([ord(character) - 0xDC00]), error.start + 1  # of a file's name that is not UTF-8: as it is
        return _ASCII.get(character, "?"), error.start + 1

    codecs.register_error("imgcls_similar", similar)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="imgcls_similar")


def _take_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str], str | None]:
    """The arguments without those of the config; the overrides "KEY=VALUE"; the part that --config.help asks for."""
    rest, own, overrides, described = list(arguments), [], [], None
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            own += [argument, *rest]
            break
        if not argument.startswith("--config."):
            own.append(argument)
            continue
        key, equals, _ = argument.removeprefix("--config.").partition("=")
        follows = bool(rest) and not rest[0].startswith("--")
        if key == "help":
            described = argument.partition("=")[2] if equals else rest.pop(0) if follows else ""
        elif not equals and follows:  # --config.KEY VALUE
            overrides.append(f"{key}={rest.pop(0)}")
        else:
            overrides.append(argument.removeprefix("--config."))
    return own, overrides, described


def _setting(name: str, options: argparse.Namespace) -> str | None:
    """The setting of the config that a flag of this name may mean."""
    from imgcls_jax.config import io, overrides

    file, workdir = getattr(options, "config", None), getattr(options, "workdir", None)
    try:
        config = io.load(file) if file else saved_config(workdir) if workdir else None
    except UserError:
        config = None
    if config is None:
        return overrides.OTHER_NAMES.get(name.replace("-", "_"))
    found = overrides.settings_named(name, config)
    return found[0] if found else None


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # such as "_"
        return -(10**30)


def is_file(path: Path) -> bool:
    """Return whether a path is an existing file; False for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path is an existing folder; False for a name that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
