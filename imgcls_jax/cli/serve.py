"""Serve an exported ONNX or StableHLO file over HTTP.

  GET /                  a page for people: drop an image, or use the camera
  POST /predict?top_k=5  one image as the body, or the files of a form
  GET /healthz, /readyz  whether the process lives, and whether it answers
  GET /metrics           figures for Prometheus
  GET /openapi.json      all of this for programs

The file's checksum and golden images are compared before anything is served. Images of several requests share a batch.
Each is decoded and resized as in evaluation. What exceeds a limit is refused, with the reason as JSON; where more
images come than there is room for, the status is 503, and Retry-After says when to try again. SIGTERM and Ctrl-C end
the server after the requests that it has accepted are answered.

ONNX runs in onnxruntime, StableHLO in JAX, on the device that it finds.

There is no password and no encryption: outside this machine, put a proxy before it. Needs imgcls_jax[serve].

Examples:
  imgcls serve runs/digits_cnn/model.onnx
  imgcls serve model.onnx --host 0.0.0.0 --port 80 --max-batch 32
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags
from imgcls_jax.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    from imgcls_jax.serve.limits import Limits

    own = Limits()
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("file", type=Path, metavar="FILE", help="an exported model, .onnx or .stablehlo")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=flags.whole(0, 65535), default=8000, help="(default: 8000; 0: any free one)")
    for flag, kind, default, what in (
        ("--max-batch", flags.whole(1, 4096), own.batch, "most images run at once"),
        ("--max-wait-ms", flags.number(0), own.wait_s * 1e3, "longest wait for others to share a batch, ms"),
        ("--queue", flags.whole(1, 10**6), own.queue, "most images in the server at a time"),
        ("--max-bytes", flags.whole(1, 2**31), own.body_bytes, "largest body of a request"),
        ("--max-pixels", flags.whole(1, 10**9), own.pixels, "largest image that is decoded"),
        ("--timeout", flags.number(0, exclusive=True), own.seconds, "longest time of a request, seconds"),
    ):
        parser.add_argument(flag, type=kind, default=default, metavar="N", help=f"{what} (default: {int(default):,})")
    options = parser.parse_args(arguments)

    try:
        from imgcls_jax.serve import run
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("imgcls_jax"):
            raise
        raise UserError(f"serving needs the package {error.name}: run pip install 'imgcls_jax[serve]'") from None

    limits = Limits(
        options.max_batch,
        options.max_wait_ms / 1e3,
        options.queue,
        options.max_bytes,
        options.max_pixels,
        options.timeout,
    )
    run.serve(options.file, options.host, options.port, limits, lambda text: print(text, flush=True))
