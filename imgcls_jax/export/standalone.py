"""Verify a file that `imgcls export` wrote: is it whole, and does it compute here what it computed there?

    python verify.py FILE

Needs numpy, and what runs the format: onnxruntime for .onnx, jax and flatbuffers for .stablehlo. Files of weights
(.safetensors, .pth) are only compared with their checksum; to run them takes imgcls_jax. Exit status: 0 as it should
be, 1 figures differ, 2 the file cannot be used.
"""

import base64
import hashlib
import json
import re
import sys
import zlib
from pathlib import Path

import numpy as np

SEAL = "seal"
MARK = b"imgcls-sha256:"
_HEX = re.compile(re.escape(MARK) + rb"([0-9a-f]{64})")
ZEROS = MARK + b"0" * 64
_HEADER = 8  # bytes of the length of a safetensors header


class Unusable(Exception):
    """The file cannot be used; the message is one sentence."""


def beside(path):
    """Return the second file of a format that can hold no texts."""
    return Path(f"{path}.json")


def document(path):
    """Read what a file says of itself, after its checksum is compared.

    Raises:
      Unusable: there is no such file, it is another program's, cut short, or changed.
    """
    path = Path(path)
    if path.suffix not in (".onnx", ".stablehlo", ".pth", ".safetensors"):
        raise Unusable(f"{path} is no exported model: its name ends in none of .onnx, .stablehlo, .pth, .safetensors")
    data = _read(path)
    has_second = path.suffix in (".stablehlo", ".pth")
    text = _read(beside(path)) if has_second else data
    marks = _HEX.findall(text)
    if len(marks) != 1:
        raise Unusable(f"{beside(path) if has_second else path} was not written by imgcls export, or is cut short")
    zeroed = text.replace(MARK + marks[0], ZEROS)
    if hashlib.sha256(data + zeroed if has_second else zeroed).hexdigest().encode() != marks[0]:
        raise Unusable(f"{path} has changed since imgcls export wrote it: its checksum is another; export it again")
    if has_second:
        return json.loads(text)
    if path.suffix == ".safetensors":
        length = int.from_bytes(data[:_HEADER], "little")
        texts = json.loads(data[_HEADER : _HEADER + length])["__metadata__"]
    else:
        texts = onnx_session(path).get_modelmeta().custom_metadata_map
    return {name: json.loads(text) for name, text in texts.items() if name not in (SEAL, "format")}


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror or error}") from None


def onnx_session(path):
    """Open an ONNX file with onnxruntime, on the CPU."""
    try:
        import onnxruntime
    except ImportError:
        raise Unusable(f"{path} needs onnxruntime: run pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common class
        raise Unusable(f"{path} cannot be loaded by onnxruntime: {str(error).splitlines()[0]}") from None


def load(path):
    """Return a function from uint8 images [n, height, width, channels] to (probabilities, logits), float32.

    Raises:
      Unusable: the file is damaged, or what runs it is missing or too old.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        session = onnx_session(path)
        return lambda images: session.run(["probabilities", "logits"], {"image": images})
    try:
        import jax
        import jax.export

        exported = jax.export.deserialize(bytearray(path.read_bytes()))
        call = jax.jit(exported.call)
    except ImportError as error:
        raise Unusable(f"{path} needs jax and flatbuffers: {error}") from None
    except Exception as error:  # flatbuffers raises anything on foreign bytes
        raise Unusable(
            f"{path} cannot be loaded by jax {jax.__version__} ({type(error).__name__}: {error}): StableHLO files have "
            "a limited life; export it again with this version"
        ) from None
    return lambda images: [np.asarray(output) for output in call(images)]


def golden(about):
    """Return (images, probabilities, logits) that a file holds."""
    kept = about["golden"]
    raw = zlib.decompress(base64.b64decode(kept["images"]))
    images = np.frombuffer(raw, np.uint8).reshape(kept["shape"])
    return images, np.array(kept["probabilities"]), np.array(kept["logits"])


def compare(about, function):
    """Run the golden images, all at once and one alone; return (greatest difference, [a sentence for each fault]).

    The difference is that of the logits, in shares of the largest one.
    """
    images, probabilities, logits = golden(about)
    tolerance, faults = about["golden"]["tolerance"], []
    names = dict(enumerate(about["class_names"]))
    scale, greatest = np.abs(logits).max(), 0.0
    for batch in (images, images[:1]):
        made = function(batch)
        for what, found, expected, unit in zip(
            ("probability", "logit"), made, (probabilities, logits), (1.0, scale), strict=True
        ):
            expected = expected[: len(batch)]
            if found.shape != expected.shape:
                faults.append(f"{what}: shape {list(found.shape)} in place of {list(expected.shape)}")
                continue
            error = np.nan_to_num(np.abs(found - expected) / unit, nan=np.inf)
            greatest = max(greatest, float(error.max())) if what == "logit" else greatest
            if error.max() > tolerance:
                image, output = np.unravel_index(error.argmax(), error.shape)
                faults.append(
                    f"image {image + 1} in a batch of {len(batch)}, {names.get(output, output)}: {what} "
                    f"{found[image, output]:.6g} in place of {expected[image, output]:.6g}"
                )
    return greatest, faults


def summary(about, path):
    """Describe a file in a line."""
    written = about["imgcls_jax"]
    return (
        f"{path}: {written['format']}, {len(about['class_names'])} classes, written {written['written']} by imgcls_jax "
        f"{written['version']}"
    )


def main(arguments):
    """Verify the file that is named; return the exit status."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    path = Path(arguments[0])
    try:
        about = document(path)
        print(summary(about, path))
        if path.suffix in (".pth", ".safetensors"):
            print("the weights are those that were written; to run them takes imgcls_jax")
            return 0
        greatest, faults = compare(about, load(path))
    except Unusable as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for fault in faults:
        print(f"differs: {fault}")
    if not faults:
        print(f"ok: logits within {greatest:.1e} of the largest (allowed: {about['golden']['tolerance']:.0e})")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
