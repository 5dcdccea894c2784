"""Compile a config for hardware that is not here: memory, arithmetic, collectives, the step's time at best.

No image is read and no array made. TPUs need libtpu, GPUs jax-cuda13-plugin and jax-cuda13-pjrt, neither of them a
device or a driver.

Examples:
  imgcls plan --config configs/digits_cnn.py --on here
  imgcls plan --config configs/cifar100_r50.py --on h100x8 --batch 2048
"""

import dataclasses
import json
from collections.abc import Sequence

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = flags.parser(__doc__)
    parser.add_argument(
        "--on", metavar="HARDWARE", help="here, v5e:2x2, v5p:2x2x1, h100x8 (of a machine), h100x8x4 (of four), a100x8"
    )
    parser.add_argument("--batch", type=flags.whole(1), metavar="N", help="images per step, in place of the config's")
    parser.add_argument("--classes", type=flags.whole(1), metavar="N", help="classes of data that no catalog describes")
    parser.add_argument("--images", type=flags.whole(1), metavar="N", help="training images of such data")
    parser.add_argument("--json", action="store_true", help="print JSON: bytes, seconds, counts")
    options = parser.parse_args(arguments)
    if options.on is None and options.config_help is None:
        raise UserError("--on is missing: give the hardware, such as --on here, --on v5e:2x2 or --on h100x8")

    from imgcls_jax.plan import hardware

    target = hardware.parse(options.on or "here")
    hardware.prepare(target)
    config = flags.config_of(options)
    if options.batch:
        config = dataclasses.replace(config, batch_size=options.batch)

    from imgcls_jax.display.console import Console
    from imgcls_jax.plan import make, report
    from imgcls_jax.xla import runtime

    runtime.setup()
    console = Console(silent=options.json)
    with console.wait(f"compiling for {target.name}"):
        plan = make.make(config, target, classes=options.classes, count=options.images)
    if options.json:
        print(json.dumps(report.document(plan), indent=2))
    else:
        console.table(f"{config.name} on {target.name}", report.rows(plan))
