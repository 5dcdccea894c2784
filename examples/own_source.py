"""A data source of your own: images and labels from a table, in a class of fifteen lines.

A source is a class of settings with a method `open` that lists images and labels. It may be defined in the config file
itself, as here, or in a module that the file imports. The rest is as with a folder: held-out shares, the cache,
unreadable images, resident or streamed batches.

    python examples/own_source.py

writes such a table and trains on it for three epochs. This file is a config file too:

    imgcls train --config examples/own_source.py --config.data.source.path=digits.csv
"""

import tempfile
from pathlib import Path

import numpy as np

from imgcls_jax import config as c
from imgcls_jax.data import Splits
from imgcls_jax.errors import UserError


class PixelTable(c.Source):
    """A CSV file with an image in each row: the gray levels of its pixels, row by row, and the name of its class."""

    path: str
    """The file."""
    side: int = 8
    """Height and width of the images, pixels."""
    white: int = 255
    """Gray level of white; 0 is black."""

    def open(self, arrays=None, on_progress=None) -> Splits:
        if not Path(self.path).is_file():
            raise UserError(f"data.source.path: there is no file {self.path}")
        pairs = []
        for line in Path(self.path).read_text().splitlines():
            *levels, label = line.split(",")
            pixels = np.array(levels, float).reshape(self.side, self.side) * (255 / self.white)
            pairs.append((np.rint(pixels).astype(np.uint8), label))
        return Splits.from_pairs(f"the table {self.path}", train=pairs)


def get_config(variant: str = "") -> c.Config:
    if variant:
        raise c.UnknownVariant(variant)
    return c.Config(
        name="own_source",
        data=c.Data(
            source=PixelTable("digits.csv", white=16),
            validation_share=0.1,
            test_share=0.2,
            canvas=c.Canvas(8, 8, channels=1),
            image_size=(8, 8),
            mean=(0.3,),
            std=(0.37,),
        ),
        augment=(c.PadCrop(1),),
        model=c.CNN(
            convs=(c.Conv(32, 3, padding=1, norm="batch", pool=2), c.Conv(64, 3, padding=1, norm="batch")),
            aggregate="flatten",
            head=c.Head(),
        ),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.AdamW(), schedule=c.Schedule(peak=3e-3, shape=c.Cosine())),
        batch_size=64,
        epochs=3,
        precision="fp32",
        seed=0,
        logging=c.Logging(tensorboard=False),
    )


def write_table(path: Path) -> None:
    """Write the 1,797 handwritten digits of scikit-learn, 8×8 pixels in gray levels 0 … 16, as such a table."""
    from sklearn.datasets import load_digits

    names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    digits = load_digits()
    rows = (
        ",".join([*(f"{level:.0f}" for level in image.ravel()), names[label]])
        for image, label in zip(digits.images, digits.target, strict=True)
    )
    path.write_text("\n".join(rows) + "\n")


def main(folder: Path) -> dict:
    """Train on a table written into `folder`; return the result."""
    from imgcls_jax.config import io
    from imgcls_jax.training.loop import train

    write_table(folder / "digits.csv")
    # Loaded as the command does it, so that the run remembers in which file PixelTable is defined.
    config = io.load(__file__, [f"data.source.path={folder / 'digits.csv'}"])
    return train(config, folder / "run")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
