"""Write a trained model as a file of another format, with all that is needed to use and to verify it."""

import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
from jaxtyping import UInt8

from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError, did_you_mean
from imgcls_jax.export import standalone
from imgcls_jax.export.onnx import precision as precisions
from imgcls_jax.export.onnx import write as onnx_files
from imgcls_jax.export.onnx.precision import Precision
from imgcls_jax.export.program import OUTPUTS, TOLERANCE, Program
from imgcls_jax.weights import save_pth, save_safetensors, to_state_dict

SUFFIXES = {"onnx": ".onnx", "stablehlo": ".stablehlo", "torch": ".pth", "safetensors": ".safetensors"}
"""File ending of each format."""
PLATFORMS = ("cpu", "cuda", "tpu")
"""What a StableHLO file runs on."""
INT8_TOLERANCE = 0.05
"""`TOLERANCE` of int8: a value between two levels falls to the one here and to the other there."""


def format_of(path: str | Path) -> str:
    """Tell the format from a file's ending.

    Raises:
      UserError: it is that of none.
    """
    suffix = Path(path).suffix
    for name, ending in SUFFIXES.items():
        if suffix == ending:
            return name
    raise UserError(
        f"{path}: the ending of the file says the format, one of {', '.join(SUFFIXES.values())}"
        f"{did_you_mean(suffix, SUFFIXES.values())}"
    )


def export(
    program: Program,
    path: str | Path,
    form: str | None = None,
    *,
    precision: Precision = "fp32",
    images: Sequence[UInt8[np.ndarray, "H W c"]] = (),
) -> list[Path]:
    """Write a trained model as a file.

    Args:
      program: the model.
      path: the file.
      form: "onnx", "stablehlo", "torch" or "safetensors"; None: as the file's ending says.
      precision: of an ONNX file: "fp32", "fp16" (weights alone) or "int8".
      images: canvases on which the range of each int8 activation is measured, such as training images.

    Returns:
      The files that were written, the main one first.

    Raises:
      UserError: the format cannot hold the model, a package is missing, or the file cannot be written.
    """
    if not program.class_names:
        raise UserError(f"{program.config.name} has no output layer, so there is nothing to export: train one")
    path = Path(path)
    form = form or format_of(path)
    if program.temperature != 1 and form in ("torch", "safetensors"):
        raise UserError(f"{path} holds weights, which no temperature changes: export to onnx or stablehlo")
    if form == "onnx":
        return _onnx(program, path, precision, images)
    if precision != "fp32":
        raise UserError(f"{path}: only ONNX files can be of {precision}, so export to onnx")
    return _WRITERS[form](program, path)


def _onnx(
    program: Program, path: Path, precision: Precision, images: Sequence[UInt8[np.ndarray, "H W c"]]
) -> list[Path]:
    onnx_files.package()
    with outputs.writing(path, binary=True) as file:
        model = onnx_files.convert(program.function, program.shape, OUTPUTS, program.sizes, "classifier")
        golden = program.golden_outputs
        if precision == "fp16":
            precisions.store_halves(model)
        elif precision == "int8":
            model = precisions.quantize(model, images)
        if precision != "fp32":
            probabilities, logits = precisions.run(model, program.golden_images, OUTPUTS)
            golden = probabilities, logits
        tolerance = INT8_TOLERANCE if precision == "int8" else TOLERANCE
        about = program.document("onnx", golden, tolerance, precision=precision)
        onnx_files.describe(model, _texts(about))
        file.write(_sealed(model.SerializeToString()))
    return [path]


def _stablehlo(program: Program, path: Path) -> list[Path]:
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError("StableHLO files need the package flatbuffers: run pip install 'imgcls_jax[onnx]'")
    weights = path.with_suffix(".safetensors")
    with outputs.writing(path, binary=True) as file:
        (batch,) = jax.export.symbolic_shape("batch")
        shape = jax.ShapeDtypeStruct((batch, *program.shape), np.uint8)
        exported = jax.export.export(jax.jit(program.function), platforms=PLATFORMS)(shape)
        data = bytes(exported.serialize())
        file.write(data)
    limit = (
        f"written by jax {jax.__version__}: newer versions of jax load it for about six months, much older ones not "
        "at all; the weights beside it last"
    )
    about = program.document("stablehlo", platforms=PLATFORMS, limited_life=limit)
    _write_beside(path, data, about)
    return [path, standalone.beside(path), *_safetensors(program, weights)]


def _safetensors(program: Program, path: Path) -> list[Path]:
    state, names = _state(program)
    about = program.document("safetensors", names=names)
    texts = _texts(about) | {standalone.SEAL: standalone.ZEROS.decode()}
    with outputs.writing(path, binary=True) as file:
        partial = Path(file.name).with_suffix(".weights")
        try:
            save_safetensors(state, partial, texts)
            file.write(_filled(partial.read_bytes()))
        finally:
            partial.unlink(missing_ok=True)
    return [path]


def _torch(program: Program, path: Path) -> list[Path]:
    state, names = _state(program)
    if names != "torch":
        raise UserError(
            f"a {type(program.config.model).__name__} has no original in torch whose names its weights could have: "
            "export to safetensors, or define torch_rules"
        )
    save_pth(state, path)
    _write_beside(path, path.read_bytes(), program.document("torch", names=names))
    return [path, standalone.beside(path)]


_WRITERS: dict[str, Callable[[Program, Path], list[Path]]] = {
    "stablehlo": _stablehlo,
    "torch": _torch,
    "safetensors": _safetensors,
}


def _state(program: Program) -> tuple[dict[str, np.ndarray], str]:
    """Give the weights under torch's names where the family has them, else under our own; and which."""
    rules = program.config.model.torch_rules()
    every = {**program.params, **program.stats}
    if all(any(rule.name_of(path) for rule in rules) for path in every):
        return to_state_dict(program.params, program.stats, program.config.model), "torch"
    return every, "imgcls_jax"


def _texts(document: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value, ensure_ascii=False) for name, value in document.items()}


def _write_beside(path: Path, data: bytes, document: Mapping[str, Any]) -> None:
    """Write the document of a format that cannot hold one, sealed together with its file."""
    text = json.dumps({**document, standalone.SEAL: standalone.ZEROS.decode()}, indent=1).encode()
    digest = hashlib.sha256(data + text).hexdigest().encode()
    with outputs.writing(standalone.beside(path), binary=True) as file:
        file.write(text.replace(standalone.ZEROS, standalone.MARK + digest))


def _sealed(data: bytes) -> bytes:
    """Append the checksum to a serialized ONNX model, as one more of its properties."""
    from onnx import ModelProto, StringStringEntryProto

    # Protobuf messages that follow each other are one message.
    entry = StringStringEntryProto(key=standalone.SEAL, value=standalone.ZEROS.decode())
    return _filled(data + ModelProto(metadata_props=[entry]).SerializeToString())


def _filled(data: bytes) -> bytes:
    """Put the checksum of all bytes where zeros stand for it."""
    digest = hashlib.sha256(data).hexdigest().encode()
    return data.replace(standalone.ZEROS, standalone.MARK + digest)
