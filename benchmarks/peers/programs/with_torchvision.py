"""torchvision's reference script as it is, by its flags; networks that torchvision lacks are registered first."""

# ruff: noqa: E402
import os
import sys
from pathlib import Path

from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
from torch.optim.optimizer import register_optimizer_step_post_hook  # bench
from torch_networks import cnn, photographs, resnet18  # bench
from torchvision import models
from torchvision.models._api import register_model

sys.path.insert(0, str(Path(SETTINGS["script"]).parent))
import train


def own_network(weights=None, num_classes=10):
    return {"cnn": cnn, "resnet18": resnet18, "photographs": photographs}[SETTINGS["job"]]()


models.own_network = register_model("own_network")(own_network)
SIZE, RESIZED = (224, 256) if SETTINGS["job"] == "photographs" else (32, 32)
FLAGS = f"""
--model own_network --device cpu --momentum 0.9 --weight-decay 0 --lr-scheduler steplr --lr-step-size 1000
--train-crop-size {SIZE} --val-crop-size {SIZE} --val-resize-size {RESIZED} --output-dir run
"""


def watch():  # bench
    """Tell of the first step and of each evaluation."""
    state = {"steps": 0, "epochs": 0}  # bench

    def stepped(optimizer, *_):  # bench
        if state["steps"] == 0:  # bench
            tell(parameters=sum(p.numel() for group in optimizer.param_groups for p in group["params"]))  # bench
            tell(first_step=True)  # bench
        state["steps"] += 1  # bench

    def evaluated(*arguments, evaluate=train.evaluate, **options):  # bench
        accuracy = evaluate(*arguments, **options)  # bench
        state["epochs"] += 1  # bench
        tell(epoch=state["epochs"], accuracy=accuracy / 100)  # bench
        return accuracy  # bench

    register_optimizer_step_post_hook(stepped)  # bench
    train.evaluate = evaluated  # bench


def main():
    watch()  # bench
    given = "--data-path {folder} --batch-size {batch} --epochs {epochs} --lr {rate}".format(**SETTINGS)
    flags = f"{given} --workers {os.cpu_count()} {FLAGS}"
    train.main(train.get_args_parser().parse_args(flags.split()))


if __name__ == "__main__":
    main()
