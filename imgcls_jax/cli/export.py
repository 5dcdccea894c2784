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
  web          a folder with a page that runs the ONNX model in the browser, for
               any static host; downloads onnxruntime-web (MIT license) once

StableHLO and torch files hold no texts: FILE.json lies beside them. --calibrated makes the probabilities of an ONNX or
StableHLO file those at the temperature that `imgcls calibrate` has fitted.

--precision fp16 halves an ONNX file: weights are stored in 16 bits, and all is computed in float32. int8 makes it a
quarter and computes convolutions and products in 8 bits, with the range of each activation measured on 256 training
images. How far the file still agrees with the run is measured on validation images, and printed.

Examples:
  imgcls export runs/digits_cnn --to onnx
  imgcls export runs/digits_cnn --to onnx --precision int8 --out small.onnx
  imgcls export runs/digits_cnn --to web --out page/
  imgcls export runs/digits_cnn --to stablehlo --out digits.stablehlo
"""

import shlex
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError

_FORMATS = ("onnx", "stablehlo", "torch", "safetensors", "web")
_PRECISIONS = ("fp32", "fp16", "int8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the name of published weights")
    parser.add_argument("--to", choices=_FORMATS, help="format (default: as the ending of --out says)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the file (default: RUN/model.ENDING, RUN/web)")
    parser.add_argument(
        "--views", choices=flags.VIEWS, metavar="KIND", help="how an image is seen (default: as in the test)"
    )
    parser.add_argument("--calibrated", action="store_true", help="probabilities at the fitted temperature")
    parser.add_argument(
        "--precision", choices=_PRECISIONS, default="fp32", help="of an ONNX file's weights (default: fp32)"
    )
    options = parser.parse_args(arguments)
    if not options.to and not options.out:
        parser.error("--to FORMAT or --out FILE says what to write")
    if not options.out and not flags.is_folder(Path(options.run)):
        parser.error(f"{options.run} is no folder of a run: --out FILE says where to write")

    from imgcls_jax.display.console import Console
    from imgcls_jax.evaluation import calibration
    from imgcls_jax.export import files
    from imgcls_jax.export.web import page
    from imgcls_jax.inference import agreement, source
    from imgcls_jax.inference.classifier import Classifier
    from imgcls_jax.xla import runtime

    is_page = options.to == "web"
    out = options.out or Path(options.run) / ("web" if is_page else f"model{files.SUFFIXES[options.to]}")
    form = "web" if is_page else files.format_of(out)
    if is_page and out.suffix:
        parser.error(f"--out {out}: a page is a folder, whose name has no ending here")
    if options.to and form != options.to:
        parser.error(f"--out {out}: the ending of a {options.to} file is {files.SUFFIXES[options.to]}")
    if options.precision != "fp32" and form not in ("onnx", "web"):
        parser.error(f"--precision {options.precision} is for --to onnx and web")
    runtime.setup()
    trained = source.read(options.run)
    fitted = calibration.of_card(trained.card, options.run) if options.calibrated else None
    if fitted and options.views not in (None, fitted.views):
        parser.error(f"--views {options.views}: the calibration is of images seen as {fitted.views}")
    console = Console()
    classifier = Classifier(trained, views=fitted.views if fitted else options.views)  # type: ignore[arg-type]
    images = agreement.training_images(classifier.config.data) if options.precision == "int8" else []
    with console.wait("exporting"):
        written = classifier.export(
            out, temperature=fitted.temperature if fitted else 1.0, precision=options.precision, images=images
        )
    if is_page:
        total = sum(path.stat().st_size for path in written)
        console.line(f"{out}/  {len(written)} files, {total / 1e6:.2f} MB, with {page.RUNTIME}")
        console.line(f"python -m http.server --directory {shlex.quote(str(out))} shows it at http://localhost:8000")
    for path in [] if is_page else written:
        console.line(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
    if options.precision != "fp32":
        with console.wait("measuring the agreement"):
            try:
                exported = Classifier.load(out / "model.onnx" if is_page else out)
                found = agreement.measure(classifier, exported).text(options.precision)
            except UserError as error:
                found = f"note: how far {options.precision} agrees with the run is not measured: {error}"
        console.line(found)
    if form == "stablehlo":
        console.line(
            "note: a StableHLO file has a limited life: newer versions of jax load it for about six months; keep the "
            "safetensors file"
        )
