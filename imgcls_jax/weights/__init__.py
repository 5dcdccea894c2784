"""Weights: torch's files read and written without torch, published weights by name, and layer surgery."""

from imgcls_jax.weights.catalog import IMAGENET_MEAN, IMAGENET_STD, Entry, Preprocessing, published, resolve
from imgcls_jax.weights.convert import from_torch, to_params, to_state_dict
from imgcls_jax.weights.formats.read import read
from imgcls_jax.weights.formats.save import save_pth, save_safetensors

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Entry",
    "Preprocessing",
    "from_torch",
    "published",
    "read",
    "resolve",
    "save_pth",
    "save_safetensors",
    "to_params",
    "to_state_dict",
]
