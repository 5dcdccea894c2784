"""Augmentation on the device: batched, jitted, from one random key per image.

`policy` turns the config's operations into one function for each phase of a run. Each operation is a class of settings
that does its own work (`config.Augmentation` is the interface), in the module of its kind: `flips`, `crops`, `affine`,
`color`, `blur`, `erasing`, `auto_policies`, `mixing`.
"""

# ruff: noqa: F401
from imgcls_jax.augment.checks import check
from imgcls_jax.augment.lazy_image import LazyImage
from imgcls_jax.augment.normalization import denormalize, normalize, prepare_for_evaluation
from imgcls_jax.augment.policy import Augment, Phase, build, phases, size_of
