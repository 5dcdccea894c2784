"""Lightning's Trainer over torchvision's transforms in the DataLoader's workers, in channels_last."""

# ruff: noqa: E402
import os

import numpy as np
import torch
from reporting import SETTINGS, make_torchvision_importable, tell  # bench

make_torchvision_importable()  # bench
import lightning
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torch_networks import cnn, photographs, resnet18  # bench
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TO_TENSOR = (v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD))


class Images(Dataset):
    def __init__(self, split, transform):
        data = np.load(SETTINGS["npz"])
        self.images, self.labels, self.transform = data[f"x_{split}"], data[f"y_{split}"], transform

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def splits(job):
    if job == "photographs":
        augment = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), *TO_TENSOR])
        plain = v2.Compose([v2.Resize(256), v2.CenterCrop(224), *TO_TENSOR])
        return ImageFolder(f"{SETTINGS['folder']}/train", augment), ImageFolder(f"{SETTINGS['folder']}/val", plain)
    flips = [v2.RandomHorizontalFlip()]
    if job == "cnn":
        flips += [v2.RandomVerticalFlip(), v2.RandomRotation(15)]
    return Images("train", v2.Compose([*flips, *TO_TENSOR])), Images("validation", v2.Compose(TO_TENSOR))


class Classifier(lightning.LightningModule):
    def __init__(self, network):
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def training_step(self, batch, _):
        images, labels = batch
        return F.cross_entropy(self.network(images.contiguous(memory_format=torch.channels_last)), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        logits = self.network(images.contiguous(memory_format=torch.channels_last))
        self.log("accuracy", (logits.argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), SETTINGS["rate"], momentum=0.9)


class Report(lightning.Callback):  # bench
    first = True  # bench

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):  # bench
        if self.first:  # bench
            tell(first_step=True)  # bench
            self.first = False  # bench

    def on_validation_epoch_end(self, trainer, module):  # bench
        tell(epoch=trainer.current_epoch + 1, accuracy=float(trainer.callback_metrics["accuracy"]))  # bench


def main():
    lightning.seed_everything(SETTINGS["seed"])
    networks = {"cnn": cnn, "resnet18": resnet18, "photographs": photographs}
    model = Classifier(networks[SETTINGS["job"]]())
    tell(parameters=sum(p.numel() for p in model.parameters()))  # bench
    train, validation = splits(SETTINGS["job"])
    common = dict(batch_size=SETTINGS["batch"], num_workers=os.cpu_count(), persistent_workers=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=SETTINGS["epochs"],
        num_sanity_val_steps=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Report()],  # bench
    )
    trainer.fit(model, DataLoader(train, shuffle=True, **common), DataLoader(validation, **common))


if __name__ == "__main__":
    main()
