"""fastai's Learner over a folder of images, augmented in the DataLoaders' workers and by batch."""

# ruff: noqa: E402, F403, F405
from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import *
from torch_networks import cnn, photographs, resnet18  # bench


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
