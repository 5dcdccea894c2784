"""Test a network of your own against what training, evaluation and restoring need.

FILE.py:NAME names a subclass of c.Model whose settings all have defaults, or an instance of one. Prints each check with
its result; the exit status is 1 if one fails.

Examples:
  imgcls check examples/own_model.py:SmallNet --size 8 --channels 1 --classes 10
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError, did_you_mean, short

if TYPE_CHECKING:
    from imgcls_jax import config as c


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("model", metavar="FILE.py:NAME", help="the network: a file and the name of its class there")
    parser.add_argument("--classes", type=flags.whole(1), default=5, metavar="N", help="number of classes (default: 5)")
    parser.add_argument(
        "--size", type=flags.whole(1, 4096), default=32, metavar="PIXELS", help="side of the images (default: 32)"
    )
    parser.add_argument(
        "--channels", type=flags.whole(1, 4096), default=3, metavar="N", help="channels of the images (default: 3)"
    )
    options = parser.parse_args(arguments)

    from imgcls_jax.doctor import contract
    from imgcls_jax.xla import runtime

    runtime.setup()
    model = load(options.model)
    size = (options.size, options.size)
    findings = contract.check(model, num_classes=options.classes, channels=options.channels, image_size=size)
    for finding in findings:
        print(f"{'FAILED' if finding.problem else 'ok':<6}  {finding.check}")
        if finding.problem:
            print(f"        {finding.problem}")
    failed = sum(finding.problem is not None for finding in findings)
    if failed:
        print(f"{options.model}: {failed} of {len(findings)} checks failed")
        sys.exit(1)
    print(f"{options.model}: all {len(findings)} checks passed")


def load(spec: str) -> "c.Model":
    """Make the network that FILE.py:NAME names.

    Raises:
      UserError: there is no such file or class, the file fails, or the class needs settings.
    """
    from pydantic import ValidationError

    from imgcls_jax import config as c
    from imgcls_jax.config import io, registry

    file, colon, name = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not name:
        raise UserError(f"{short(spec)} is not FILE.py:NAME: name a file and a network in it, as in net.py:MyNet")
    path = Path(file)
    if not flags.is_file(path):
        raise UserError(f"there is no file {short(file)[1:-1]}")
    with io.mistakes_of(file):
        module = registry.execute(f"imgcls_check_{path.stem}", path)
    own: dict[str, c.Model | type[c.Model]] = {
        known: value
        for known, value in vars(module).items()
        if isinstance(value, c.Model) or (isinstance(value, type) and issubclass(value, c.Model))
    }
    if name not in own:
        there = f"; it has {', '.join(own)}" if own else "; it has none"
        raise UserError(f"{file} has no network {name}{did_you_mean(name, own)}{there}")
    found = own[name]
    if isinstance(found, c.Model):
        return found
    try:
        return found()
    except ValidationError as error:
        missing = ", ".join(str(fault["loc"][-1]) for fault in error.errors())
        raise UserError(
            f"{name} needs settings without a default ({missing}): assign an instance to a name in {file}, as in "
            f"EXAMPLE = {name}(…), and check {file}:EXAMPLE"
        ) from None
