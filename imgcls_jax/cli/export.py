"""Write a trained run as one file for other programs.

RUN is a run's folder or the name of published weights. The file takes uint8 images [batch, height, width, channels] of
the canvas's size and gives probabilities and logits; preprocessing is inside, and so are the class names, the model
card, the license of the weights, and golden images with their outputs, which `imgcls verify` runs.

  onnx         onnxruntime and many others (needs imgcls_jax[onnx])
  stablehlo    jax alone, on CPU, GPU and TPU; newer versions of jax load it for
               about six months (needs flatbuffers)
  torch        a state dict under the names of the original, for
               torch.load(FILE, weights_only=True)
  safetensors  the same weights, with all texts inside; for keeping

StableHLO and torch files hold no texts: FILE.json lies beside them. --calibrated makes the probabilities of an ONNX or
StableHLO file those at the temperature that `imgcls calibrate` has fitted.

Examples:
  imgcls export runs/digits_cnn --to onnx
  imgcls export runs/digits_cnn --to stablehlo --out digits.stablehlo
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags

_FORMATS = ("onnx", "stablehlo", "torch", "safetensors")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of published weights")
    parser.add_argument("--to", choices=_FORMATS, help="format (default: as the ending of --out says)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file (default: RUN/model.ENDING)")
    parser.add_argument(
        "--views", choices=flags.VIEWS, metavar="KIND", help="how an image is seen (default: as in the test)"
    )
    parser.add_argument("--calibrated", action="store_true", help="probabilities at the fitted temperature")
    options = parser.parse_args(arguments)
    if not options.to and not options.out:
        parser.error("--to FORMAT or --out FILE says what to write")
    if not options.out and not flags.is_folder(Path(options.run)):
        parser.error(f"{options.run} is no folder of a run: --out FILE says where to write")

    from imgcls_jax.display.console import Console
    from imgcls_jax.evaluation import calibration
    from imgcls_jax.export import files
    from imgcls_jax.inference import source
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.xla import runtime

    out = options.out or Path(options.run) / f"model{files.SUFFIXES[options.to]}"
    form = files.format_of(out)
    if options.to and form != options.to:
        parser.error(f"--out {out}: the ending of a {options.to} file is {files.SUFFIXES[options.to]}")
    runtime.setup()
    trained = source.read(options.run)
    fitted = calibration.of_card(trained.card, options.run) if options.calibrated else None
    if fitted and options.views not in (None, fitted.views):
        parser.error(f"--views {options.views}: the calibration is of images seen as {fitted.views}")
    console = Console()
    classifier = Classifier(trained, views=fitted.views if fitted else options.views)  # type: ignore[arg-type]
    with console.wait("exporting"):
        written = classifier.export(out, temperature=fitted.temperature if fitted else 1.0)
    for path in written:
        console.line(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    if form == "stablehlo":
        console.line(
            "note: a StableHLO file has a limited life: newer versions of jax load it for about six months; keep the "
            "safetensors file"
        )
