"""Verify a file that `imgcls export` wrote.

Compares the file with its checksum, runs the golden images that it holds, and compares every probability and logit.
Exit status: 0 as it should be, 1 figures differ, 2 the file cannot be used.

--script writes verify.py beside the file: one file that does the same without imgcls_jax, for another machine.

Examples:
  imgcls verify runs/digits_cnn/model.onnx
  imgcls verify runs/digits_cnn/model.onnx --script
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("file", type=Path, metavar="FILE", help="an exported model")
    parser.add_argument("--script", action="store_true", help="write verify.py beside the file as well")
    options = parser.parse_args(arguments)

    from imgcls_jax.disk import outputs
    from imgcls_jax.export import standalone

    try:
        about = standalone.document(options.file)
        print(standalone.summary(about, options.file))
        if options.script:
            script = options.file.with_name("verify.py")
            outputs.write_text(script, Path(standalone.__file__).read_text(encoding="utf-8"))
            print(script)
        if options.file.suffix in (".pth", ".safetensors"):
            from imgcls_jax.inference import exported

            greatest, faults = standalone.compare(about, exported.function_of(options.file))
        else:
            greatest, faults = standalone.compare(about, standalone.load(options.file))
    except standalone.Unusable as error:
        raise UserError(str(error)) from None
    for fault in faults:
        print(f"differs: {fault}")
    if faults:
        sys.exit(1)
    print(f"ok: logits within {greatest:.1e} of the largest (allowed: {about['golden']['tolerance']:.0e})")
