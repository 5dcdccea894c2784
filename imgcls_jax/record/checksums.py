"""Checksums of a checkpoint: SHA-256 of every array and of the document, by which damage is told from data."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from imgcls_jax.parallel.cores import usable_cores

_ARRAYS, _DOCUMENT = "checksums", "checksum"


def of_arrays(tree: Any) -> dict[str, str]:
    """Compute the SHA-256 of every array's dtype, shape and bytes.

    Args:
      tree: arrays of JAX or numpy. Those that are split over several processes are left out, because none has them
        whole.

    Returns:
      Hexadecimal digits by the array's path, its parts joined by dots.
    """
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree.leaves_with_path(tree)
    }
    # Several arrays at once: hashing lets other threads run.
    with ThreadPoolExecutor(usable_cores()) as pool:
        digests = pool.map(_digest, named.values())
        return {path: digest for path, digest in zip(named, digests, strict=True) if digest is not None}


def _digest(array: Any) -> str | None:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        if not array.is_fully_replicated:
            return None
        array = array.addressable_data(0)
    values = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{values.dtype.name} {list(np.shape(array))}".encode())
    digest.update(values.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def signed(document: Mapping[str, Any], arrays: Mapping[str, str]) -> dict[str, Any]:
    """Return a document with the checksums of the arrays beside it and of itself."""
    whole = {**document, _ARRAYS: dict(arrays)}
    return {**whole, _DOCUMENT: _text_digest(whole)}


def checked(signed: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a document as it was before `signed`, and the checksums of the arrays beside it.

    Raises:
      ValueError: it is not what was written.
    """
    if not isinstance(signed, dict):
        raise ValueError("its document is not a JSON object")
    document = dict(signed)
    expected = document.pop(_DOCUMENT, None)
    # An older version wrote neither; only one of both is damage.
    if (expected is not None or _ARRAYS in document) and expected != _text_digest(document):
        raise ValueError("the checksum of its document differs")
    return document, document.pop(_ARRAYS, {})


def check_arrays(tree: Any, expected: Mapping[str, str]) -> None:
    """Raise ValueError unless the arrays are those of which `expected` has the checksums."""
    found = of_arrays(tree)
    wrong = [path for path, digest in expected.items() if path in found and found[path] != digest]
    if wrong:
        raise ValueError(f"the checksum of {wrong[0]} differs{f', and {len(wrong) - 1} more' if wrong[1:] else ''}")
    if expected and jax.process_count() == 1 and expected.keys() != found.keys():
        other = sorted(expected.keys() ^ found.keys())[0]
        raise ValueError(f"{other} is not among both what was saved and what is read")


def _text_digest(document: Any) -> str:
    # As a reader sees it: JSON has text keys and lists alone.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(document)), sort_keys=True).encode()).hexdigest()
