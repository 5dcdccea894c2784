"""The resolved document of every shipped config, held against documents saved before components had one tag.

What was renamed since is listed here; every value is the same.
"""

import gzip
import json
from pathlib import Path

import pytest
from shipped import SPECS

from imgcls_jax.config import io

SAVED = json.loads(gzip.decompress((Path(__file__).parents[1] / "golden" / "documents.json.gz").read_bytes()))

# Each kind of component had a tag of its own; now all have "kind", the class's name.
KINDS = {
    "family": {
        "cnn": "CNN", "resnet": "ResNet", "cifar_resnet": "CifarResNet", "wide_resnet": "WideResNet",
        "squeezenet": "SqueezeNet", "airbench": "Airbench", "dinov2": "DINOv2",
    },
    "loss": {"cross_entropy": "CrossEntropy", "binary_cross_entropy": "BinaryCrossEntropy", "focal": "Focal"},
    "name": {
        "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "lion": "Lion", "lamb": "LAMB",
        "muon": "Muon", "schedule_free_adamw": "ScheduleFreeAdamW",
    },
    "shape": {
        "constant": "Constant", "step": "Step", "multi_step": "MultiStep", "exponential": "Exponential",
        "polynomial": "Polynomial", "cosine": "Cosine", "cosine_restarts": "CosineRestarts", "one_cycle": "OneCycle",
        "reduce_on_plateau": "ReduceOnPlateau",
    },
    "op": {
        "horizontal_flip": "HorizontalFlip", "vertical_flip": "VerticalFlip", "alternating_flip": "AlternatingFlip",
        "pad_crop": "PadCrop", "random_crop": "RandomCrop", "random_resized_crop": "RandomResizedCrop",
        "affine": "Affine", "rotation": "Rotation", "color_jitter": "ColorJitter", "greyscale": "Grayscale",
        "gaussian_blur": "GaussianBlur", "random_erasing": "RandomErasing", "cutout": "Cutout",
        "auto_augment": "AutoAugment", "rand_augment": "RandAugment", "trivial_augment_wide": "TrivialAugmentWide",
        "aug_mix": "AugMix", "mixup": "Mixup", "cutmix": "CutMix", "mixup_or_cutmix": "MixupOrCutMix",
    },
    "kind": {"tfds": "TFDS", "folder": "Folder", "arrays": "Arrays"},
}  # fmt: skip
RENAMED = {"labelled_test": "labeled_test", "normalise_by": "normalize_by", "normalise": "normalize"}
# Settings that came since, with defaults that change nothing.
ADDED = {
    "": {
        "metrics": [], "callbacks": [], "evaluators": [], "max_steps": None, "evaluate_every_steps": None,
        "save_every_minutes": None, "log_every_steps": None, "bn_group": None,
        "cpu_convolutions": "xla",
    },
    "data": {"fold": None, "group_pattern": None},
    "logging": {"predictions": True, "mlflow_experiment": None, "trackio_project": None, "pictures": True},
    "data.canvas": {"depth": 8, "max_megapixels": 500.0, "max_file_mib": 2048.0},
    "data.eval_canvas": {"depth": 8, "max_megapixels": 500.0, "max_file_mib": 2048.0},
}  # fmt: skip


def renamed(node, path=""):
    if isinstance(node, list):
        return [renamed(item, path) for item in node]
    if not isinstance(node, dict):
        return node
    result = {}
    for key, value in node.items():
        kind = KINDS.get(key, {}).get(value) if isinstance(value, str) else None
        result["kind" if kind else RENAMED.get(key, key)] = kind or renamed(value, f"{path}.{key}".lstrip("."))
    return result | ADDED.get(path, {})


@pytest.mark.parametrize("spec", [spec for spec in SPECS if Path(spec).name in SAVED], ids=lambda spec: Path(spec).name)
def test_every_value_of_a_shipped_config_is_as_before(spec):
    assert io.to_tree(io.load(spec)) == renamed(SAVED[Path(spec).name])


def test_no_shipped_config_is_gone():
    assert {Path(spec).name for spec in SPECS} >= SAVED.keys()
