"""timm's networks of golden/timm.npz, and their images."""

import functools
import json
from pathlib import Path

import numpy as np
import weights_reference as reference

NETWORKS = {
    "resnet18.a1_in1k": True,
    "resnet50.a1_in1k": True,
    "tf_efficientnet_lite0.in1k": True,
    "tf_efficientnet_lite2.in1k": False,
    "vit_small_patch14_dinov2.lvd142m": True,
    "vit_small_patch14_reg4_dinov2.lvd142m": True,
    "efficientnet_lite0.ra_in1k": False,
}
"""Which, and whether their logits are kept."""

GOLDEN = Path(__file__).parents[1] / "golden" / "timm.npz"


def images(name):
    """Normalized float32 images [b, h, w, c]; the transformers' are of the size of their positions."""
    shape = (1, 518, 518, 3) if name.startswith("vit") else reference.SHAPE
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def config(name):
    """config.json, as timm writes it."""
    return json.loads(str(np.load(GOLDEN)[f"{name}/config"]))


@functools.cache
def state(name):
    """The tensors by timm's names; not to be changed."""
    return reference.random_state(dict(shapes(name)))


def logits(name):
    """timm's, in float64."""
    return np.load(GOLDEN)[f"{name}/logits"]


def shapes(name):
    """Pairs of timm's name and the shape."""
    return [(key, tuple(shape)) for key, shape in json.loads(str(np.load(GOLDEN)[f"{name}/shapes"])).items()]
