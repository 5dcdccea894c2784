"""Weights: torch's files read and written without torch, published weights by name, and layer surgery."""

from imgcls_jax.weights.catalogue import CATALOGUE, IMAGENET_MEAN, IMAGENET_STD, Entry, Preprocessing, resolve
from imgcls_jax.weights.convert import from_torch, to_params, to_state_dict
from imgcls_jax.weights.read import read
from imgcls_jax.weights.save import save_pth, save_safetensors

__all__ = [
    "CATALOGUE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Entry",
    "Preprocessing",
    "from_torch",
    "read",
    "resolve",
    "save_pth",
    "save_safetensors",
    "to_params",
    "to_state_dict",
]
