"""Compare a model with its original in torch, layer by layer, on the same weights and images.

Prints the error of every layer's output and names the first layer that diverges; the exit status is 1 if one does.
Needs torch, torchvision and efficientnet-lite-pytorch: pip install 'imgcls_jax[parity]'.

Examples:
  imgcls parity --model resnet50
  imgcls parity --model resnet18 --checkpoint torchvision/resnet18.IMAGENET1K_V1 --image-size 224
  imgcls parity --model efficientnet_lite0 --checkpoint efficientnet_lite/lite0 --image-size 224
"""

import sys
from collections.abc import Sequence

from imgcls_jax.cli import flags


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("--model", required=True, help="an architecture, such as resnet50 or efficientnet_lite0")
    parser.add_argument("--checkpoint", help="weights: a file or a published name (default: random ones)")
    parser.add_argument(
        "--image-size",
        type=flags.whole(1, 4096),
        default=64,
        metavar="PIXELS",
        help="side of the random images (default: 64)",
    )
    options = parser.parse_args(arguments)

    from imgcls_jax.doctor import parity

    module, model = parity.load(options.model, options.checkpoint, options.image_size)
    rows = parity.compare(module, model, options.image_size)
    print(parity.table(rows))
    first = next((row for row in rows if row.diverges), None)
    if first:
        print(
            f"{first.layer} is the first layer that diverges: relative error {first.error:.1e} where torch's own "
            f"rounding makes {first.torch_error:.1e}; greatest absolute difference {first.largest:.1e}"
        )
        sys.exit(1)
    print(f"all {len(rows)} layers agree; relative error of the logits: {rows[-1].error:.1e}")
