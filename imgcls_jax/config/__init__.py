"""Everything a config file needs: `from imgcls_jax import config as c`, then `c.Config(…)`.

The classes named here are the groups of settings and the roots of the components. Every component that is registered
below a root (`c.ResNet`, `c.AdamW`, …), and every other group of settings (`c.Conv`), is an attribute of this module
too, wherever it is defined.
"""

from typing import TYPE_CHECKING, Any

from imgcls_jax.config import registry
from imgcls_jax.config.augment import Augmentation, BatchInfo, CheckContext, Crop, Mix, Policy, Probability
from imgcls_jax.config.callback import Callback
from imgcls_jax.config.data import Canvas, Data, Source
from imgcls_jax.config.experiment import Best, Config, EarlyStopping, Evaluator, Logging, Mesh, Recover
from imgcls_jax.config.metric import Metric, MetricOfAll
from imgcls_jax.config.model import Dense, Head, Model
from imgcls_jax.config.optim import EMA, SWA, Clip, Lookahead, Loss, Optim, Optimizer, Part, Schedule, Shape
from imgcls_jax.config.registry import settings
from imgcls_jax.config.transfer import BatchNormMode, Group, Transfer, Unfreeze
from imgcls_jax.errors import UnknownVariant

if TYPE_CHECKING:  # for editors; at run time `__getattr__` finds these, and a user's own
    from imgcls_jax.augment.affine import Affine as Affine
    from imgcls_jax.augment.affine import Rotation as Rotation
    from imgcls_jax.augment.auto_policies import AugMix as AugMix
    from imgcls_jax.augment.auto_policies import AutoAugment as AutoAugment
    from imgcls_jax.augment.auto_policies import RandAugment as RandAugment
    from imgcls_jax.augment.auto_policies import TrivialAugmentWide as TrivialAugmentWide
    from imgcls_jax.augment.blur import GaussianBlur as GaussianBlur
    from imgcls_jax.augment.color import ColorJitter as ColorJitter
    from imgcls_jax.augment.color import Grayscale as Grayscale
    from imgcls_jax.augment.crops import PadCrop as PadCrop
    from imgcls_jax.augment.crops import RandomCrop as RandomCrop
    from imgcls_jax.augment.crops import RandomResizedCrop as RandomResizedCrop
    from imgcls_jax.augment.crops import Shrink as Shrink
    from imgcls_jax.augment.erasing import Cutout as Cutout
    from imgcls_jax.augment.erasing import RandomErasing as RandomErasing
    from imgcls_jax.augment.flips import AlternatingFlip as AlternatingFlip
    from imgcls_jax.augment.flips import HorizontalFlip as HorizontalFlip
    from imgcls_jax.augment.flips import VerticalFlip as VerticalFlip
    from imgcls_jax.augment.mixing import CutMix as CutMix
    from imgcls_jax.augment.mixing import Mixup as Mixup
    from imgcls_jax.augment.mixing import MixupOrCutMix as MixupOrCutMix
    from imgcls_jax.data.sources.arrays import Arrays as Arrays
    from imgcls_jax.data.sources.folder import Folder as Folder
    from imgcls_jax.data.sources.hf_dataset import HFDataset as HFDataset
    from imgcls_jax.data.sources.table import Table as Table
    from imgcls_jax.data.sources.tfds import TFDS as TFDS
    from imgcls_jax.evaluation.metrics import BalancedAccuracy as BalancedAccuracy
    from imgcls_jax.evaluation.metrics import MacroF1 as MacroF1
    from imgcls_jax.evaluation.metrics import Score as Score
    from imgcls_jax.evaluation.metrics import TopK as TopK
    from imgcls_jax.models.airbench import Airbench as Airbench
    from imgcls_jax.models.cifar_resnet import CifarResNet as CifarResNet
    from imgcls_jax.models.cnn import CNN as CNN
    from imgcls_jax.models.cnn import Conv as Conv
    from imgcls_jax.models.dinov2 import DINOv2 as DINOv2
    from imgcls_jax.models.efficientnet_lite import EfficientNetLite as EfficientNetLite
    from imgcls_jax.models.resnet import ResNet as ResNet
    from imgcls_jax.models.squeezenet import SqueezeNet as SqueezeNet
    from imgcls_jax.models.wide_resnet import WideResNet as WideResNet
    from imgcls_jax.optim.adam import LAMB as LAMB
    from imgcls_jax.optim.adam import Adam as Adam
    from imgcls_jax.optim.adam import AdamW as AdamW
    from imgcls_jax.optim.lion import Lion as Lion
    from imgcls_jax.optim.losses import BinaryCrossEntropy as BinaryCrossEntropy
    from imgcls_jax.optim.losses import CrossEntropy as CrossEntropy
    from imgcls_jax.optim.losses import Focal as Focal
    from imgcls_jax.optim.muon import Muon as Muon
    from imgcls_jax.optim.plateau import ReduceOnPlateau as ReduceOnPlateau
    from imgcls_jax.optim.rmsprop import RMSprop as RMSprop
    from imgcls_jax.optim.schedule_free import ScheduleFreeAdamW as ScheduleFreeAdamW
    from imgcls_jax.optim.schedules import Constant as Constant
    from imgcls_jax.optim.schedules import Cosine as Cosine
    from imgcls_jax.optim.schedules import CosineRestarts as CosineRestarts
    from imgcls_jax.optim.schedules import Exponential as Exponential
    from imgcls_jax.optim.schedules import MultiStep as MultiStep
    from imgcls_jax.optim.schedules import OneCycle as OneCycle
    from imgcls_jax.optim.schedules import Polynomial as Polynomial
    from imgcls_jax.optim.schedules import Step as Step
    from imgcls_jax.optim.sgd import SGD as SGD
    from imgcls_jax.optim.task_losses import MSE as MSE
    from imgcls_jax.optim.task_losses import Huber as Huber
    from imgcls_jax.optim.task_losses import MultiLabel as MultiLabel

__all__ = [
    "EMA",
    "SWA",
    "Augmentation",
    "BatchInfo",
    "BatchNormMode",
    "Best",
    "Callback",
    "Canvas",
    "CheckContext",
    "Clip",
    "Config",
    "Crop",
    "Data",
    "Dense",
    "EarlyStopping",
    "Evaluator",
    "Group",
    "Head",
    "Logging",
    "Lookahead",
    "Loss",
    "Mesh",
    "Metric",
    "MetricOfAll",
    "Mix",
    "Model",
    "Optim",
    "Optimizer",
    "Part",
    "Policy",
    "Probability",
    "Recover",
    "Schedule",
    "Shape",
    "Source",
    "Transfer",
    "Unfreeze",
    "UnknownVariant",
    "settings",
]


def __getattr__(name: str) -> Any:
    if name[:1].isupper():  # the import system asks for submodules and dunders, too
        for prepare in (lambda: None, registry.import_own):
            prepare()
            for root in registry.ROOTS:
                if found := root.registered.get(name):
                    return found
            if (found := registry.SETTINGS.get(name)) and registry.is_own(found):
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *(kind for root in registry.ROOTS for kind in root.kinds() if ":" not in kind)})
