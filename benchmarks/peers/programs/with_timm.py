"""timm's train.py as it is, by its flags; the networks that timm does not have are registered first."""

# ruff: noqa: E402
import logging  # bench
import os
import runpy
import sys

from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
import timm
import torch_networks  # bench
from timm.models import register_model


@register_model
def cnn(pretrained=False, **_):
    return _counted(torch_networks.cnn())


@register_model
def resnet18_cifar(pretrained=False, **_):
    return torch_networks.for_small_images(timm.create_model("resnet18", num_classes=10))


@register_model
def photographs(pretrained=False, **_):
    return _counted(torch_networks.photographs())


def _counted(network):
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
