"""Augmentation on the device: batched, jitted, from one key an image.

`policy` turns the config's list into one function a phase; the other modules hold the operations, each as a draw of
parameters and a map that applies them.
"""

# ruff: noqa: F401
from imgcls_jax.augment.checks import check
from imgcls_jax.augment.normalise import denormalise, evaluation, normalise
from imgcls_jax.augment.policy import Augment, Phase, build, phases
