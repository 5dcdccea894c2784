"""The networks of the jobs in torch, for the programs of the libraries that have none of their own."""

from torch import nn
from torchvision import models


def cnn():
    layers, channels = [], 3
    for first, second, dropout in ((32, 64, 0), (128, 128, 0.05), (256, 256, 0)):
        layers += [nn.Conv2d(channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU()]
        layers += [nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(dropout)]
        channels = second
    head = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()]
    return nn.Sequential(*layers, *head, nn.Dropout(0.1), nn.Linear(512, 10))


def resnet18():
    return for_small_images(models.resnet18(num_classes=10))


def for_small_images(network):
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def photographs():
    layers, channels = [], 3
    for width, stride in ((32, 2), (64, 1), (128, 1), (256, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))
