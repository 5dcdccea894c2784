"""Write the browser page of a model, with all that it needs beside it, so that it asks nobody for anything."""

import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from imgcls_jax.disk import outputs
from imgcls_jax.disk.cache import cache_dir
from imgcls_jax.download import fetch
from imgcls_jax.errors import UserError
from imgcls_jax.export import files, standalone
from imgcls_jax.export.onnx.precision import Precision
from imgcls_jax.export.program import Program
from imgcls_jax.export.web import page

_REGISTRY = "https://registry.npmjs.org"
_ARCHIVE = "onnxruntime-web-1.30.0.tgz"
_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_PARTS = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
# The package carries no text of its license, which asks to be handed on.
_LICENSE = """\
onnxruntime-web (ort.wasm.min.mjs, ort-wasm-simd-threaded.mjs, ort-wasm-simd-threaded.wasm)
https://github.com/microsoft/onnxruntime, whose file ThirdPartyNotices.txt names what it is built of

MIT License

Copyright (c) Microsoft Corporation

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def write(
    program: Program,
    folder: Path,
    *,
    precision: Precision = "fp32",
    images: Sequence[UInt8[np.ndarray, "H W c"]] = (),
) -> list[Path]:
    """Write the page's folder: HTML, CSS, JavaScript, model.onnx, and the runtime, downloaded once (33 MB).

    Args:
      program: the model.
      folder: made if missing; files of these names are replaced.
      precision, images: see `files.export`.

    Returns: the files.

    Raises:
      UserError: the model cannot be ONNX, the runtime cannot be downloaded, or the folder cannot be written.
    """
    archive = runtime()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from None
    model = files.export(program, folder / "model.onnx", precision=precision, images=images)
    parts = {path.name: path.read_bytes() for path in sorted(page.FOLDER.iterdir())}
    with tarfile.open(archive) as opened:
        for name in _PARTS:
            member = opened.extractfile(f"package/dist/{name}")
            assert member is not None, "its SHA-256 is right"
            parts[name] = member.read()
    parts["LICENSE-onnxruntime-web.txt"] = _LICENSE.encode()
    about = page.description(standalone.document(model[0]), program.config.name, "browser")
    parts["about.json"] = json.dumps(about, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    for name, content in parts.items():
        with outputs.writing(folder / name, binary=True) as file:
            file.write(content)
    return [*model, *(folder / name for name in parts)]


def runtime() -> Path:
    """Return the archive of the runtime, from the cache or npm's registry ($NPM_CONFIG_REGISTRY)."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY", _REGISTRY).rstrip("/")
    return fetch(f"{registry}/onnxruntime-web/-/{_ARCHIVE}", _SHA256, cache_dir() / "npm")
