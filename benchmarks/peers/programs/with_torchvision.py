"""torchvision's reference script as it is, by its flags; networks that torchvision lacks are registered first."""

# ruff: noqa: E402
import os
import sys
from pathlib import Path

from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook  # bench
from torchvision import models
from torchvision.models._api import register_model

sys.path.insert(0, str(Path(SETTINGS["script"]).parent))
import train


def cnn(weights=None, num_classes=10):
    layers, channels = [], 3
    for first, second, dropout in ((32, 64, 0), (128, 128, 0.05), (256, 256, 0)):
        layers += [nn.Conv2d(channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU()]
        layers += [nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(dropout)]
        channels = second
    head = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()]
    return nn.Sequential(*layers, *head, nn.Dropout(0.1), nn.Linear(512, num_classes))


def resnet18(weights=None, num_classes=10):
    network = models.resnet18(num_classes=num_classes)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def photographs(weights=None, num_classes=10):
    layers, channels = [], 3
    for width, stride in ((32, 2), (64, 1), (128, 1), (256, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, num_classes))


def own_network(weights=None, num_classes=10):
    return {"cnn": cnn, "resnet18": resnet18, "photographs": photographs}[SETTINGS["job"]](weights, num_classes)


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
