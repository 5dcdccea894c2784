"""timm's train.py as it is, by its flags; the networks that timm does not have are registered first."""

# ruff: noqa: E402
import logging  # bench
import os
import runpy
import sys

from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
import timm
from timm.models import register_model
from torch import nn


@register_model
def cnn(pretrained=False, **_):
    layers, channels = [], 3
    for first, second, dropout in ((32, 64, 0), (128, 128, 0.05), (256, 256, 0)):
        layers += [nn.Conv2d(channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU()]
        layers += [nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(dropout)]
        channels = second
    head = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()]
    network = nn.Sequential(*layers, *head, nn.Dropout(0.1), nn.Linear(512, 10))
    network.num_classes = 10
    return network


@register_model
def resnet18_cifar(pretrained=False, **_):
    network = timm.create_model("resnet18", num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


@register_model
def photographs(pretrained=False, **_):
    layers, channels = [], 3
    for width, stride in ((32, 2), (64, 1), (128, 1), (256, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))
    network.num_classes = 10
    return network


FLAGS = """
--num-classes 10 --device cpu --channels-last --val-split val --opt sgd --momentum 0.9 --weight-decay 0
--sched step --decay-epochs 1000 --warmup-epochs 0 --smoothing 0 --color-jitter 0 --interpolation bilinear
--mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 --checkpoint-hist 1 --output runs --experiment run
"""
OF_JOB = {
    "cnn": "--model cnn --input-size 3 32 32 --crop-pct 1 --vflip 0.5 --scale 1 1 --ratio 1 1",
    "resnet18": "--model resnet18_cifar --input-size 3 32 32 --crop-pct 1 --scale 1 1 --ratio 1 1",
    "photographs": "--model photographs --input-size 3 224 224 --crop-pct 0.875",
}


class Report(logging.Handler):  # bench
    """Reads what train.py logs."""

    first, epoch = True, 0  # bench

    def emit(self, record):  # bench
        text = record.getMessage()  # bench
        if text.startswith("Model ") and "param count:" in text:  # bench
            tell(parameters=int(text.rpartition("param count:")[2]))  # bench
        if text.startswith("Train: ") and self.first:  # bench
            tell(first_step=True)  # bench
            self.first = False  # bench
        if text.startswith("Test: ["):  # bench
            done, last = text.partition("[")[2].partition("]")[0].split("/")  # bench
            if int(done) == int(last):  # bench
                self.epoch += 1  # bench
                accuracy = float(text.partition("Acc@1:")[2].partition("(")[2].partition(")")[0])  # bench
                tell(epoch=self.epoch, accuracy=accuracy / 100)  # bench


def main():
    logging.getLogger().addHandler(Report())  # bench
    given = "--data-dir {folder} --batch-size {batch} --epochs {epochs} --lr {rate} --seed {seed}".format(**SETTINGS)
    flags = f"{given} --workers {os.cpu_count()} {FLAGS} {OF_JOB[SETTINGS['job']]}"
    sys.argv = [SETTINGS["script"], *flags.split()]
    runpy.run_path(SETTINGS["script"], run_name="__main__")


if __name__ == "__main__":
    main()
