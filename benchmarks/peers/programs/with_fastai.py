"""fastai's Learner over a folder of images, augmented in the DataLoaders' workers and by batch."""

# ruff: noqa: E402, F403, F405
from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import *
from torchvision.models import resnet18 as torchvision_resnet18


def cnn():
    layers, channels = [], 3
    for first, second, dropout in ((32, 64, 0), (128, 128, 0.05), (256, 256, 0)):
        layers += [nn.Conv2d(channels, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU()]
        layers += [nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(dropout)]
        channels = second
    head = [nn.Flatten(), nn.Dropout(0.1), nn.Linear(4096, 1024), nn.ReLU(), nn.Linear(1024, 512), nn.ReLU()]
    return nn.Sequential(*layers, *head, nn.Dropout(0.1), nn.Linear(512, 10))


def resnet18():
    network = torchvision_resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def photographs():
    layers, channels = [], 3
    for width, stride in ((32, 2), (64, 1), (128, 1), (256, 1)):
        layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10))


def transforms(job):
    normalize = Normalize.from_stats(*imagenet_stats)
    if job == "photographs":
        return dict(item_tfms=RandomResizedCrop(224, min_scale=0.08), batch_tfms=[Flip(), normalize])
    if job == "cnn":
        flips = Dihedral(
            p=1, draw=lambda x: torch.randint(0, 4, (len(x),))
        )  # of its eight, the four without a transpose
        rotation = Rotate(15, p=1, mode="nearest", pad_mode="zeros")
        return dict(batch_tfms=[*setup_aug_tfms([flips, rotation]), normalize])
    return dict(batch_tfms=[Flip(), normalize])


class Report(Callback):  # bench
    def after_batch(self):  # bench
        if self.training and self.learn.train_iter == 1:  # bench
            tell(first_step=True)  # bench

    def after_epoch(self):  # bench
        tell(epoch=self.epoch + 1, accuracy=float(self.learn.final_record[-1]))  # bench

    order = 90  # bench


def main():
    set_seed(SETTINGS["seed"])
    job = SETTINGS["job"]
    loaders = ImageDataLoaders.from_folder(
        SETTINGS["folder"], valid="val", bs=SETTINGS["batch"], num_workers=defaults.cpus, **transforms(job)
    )
    network = {"cnn": cnn, "resnet18": resnet18, "photographs": photographs}[job]()
    tell(parameters=sum(p.numel() for p in network.parameters()))  # bench
    learn = Learner(loaders, network, loss_func=CrossEntropyLossFlat(), opt_func=SGD, metrics=accuracy)
    learn.add_cb(ChannelsLast())
    learn.add_cb(Report())  # bench
    with learn.no_bar():
        learn.fit(SETTINGS["epochs"], SETTINGS["rate"])


if __name__ == "__main__":
    main()
