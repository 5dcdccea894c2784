"""`imgcls_digits`: the 1,797 handwritten digits of scikit-learn as a tfds set that is prepared without TensorFlow.

Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository; scikit-learn ships
its 1,797 test images, 8×8 in 17 grey levels.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock
from PIL import Image

from imgcls_jax.data.split import hold_out

NAME = "imgcls_digits"
TEST_SHARE = 0.2


class ImgclsDigits(tfds.core.GeneratorBasedBuilder):
    """8×8 greyscale PNG images, grey levels 0 … 16 stretched to 0 … 255; fixed stratified train and test splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator[Any]]:
        from sklearn.datasets import load_digits  # Here: only preparing needs scikit-learn, which is slow to import.

        digits = load_digits()
        names = self.info.features["label"].names
        train, test = hold_out(digits.target, TEST_SHARE, seed=0, class_names=names, purpose="test")
        return {
            "train": self._generate_examples(digits, train),
            "test": self._generate_examples(digits, test),
        }

    def _generate_examples(self, digits: Any, indices: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in indices.tolist():
            file = io.BytesIO()
            grey = np.rint(digits.images[index] * (255 / 16)).astype(np.uint8)
            Image.fromarray(grey).save(file, "PNG")
            file.seek(0)  # tfds stores the bytes of a file object as they are; an array it would encode by TensorFlow.
            yield index, {"image": file, "label": int(digits.target[index])}


def prepare(data_dir: Path) -> None:
    """Writes the set below `data_dir` unless it is there. Atomic, and safe with several processes at once."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(data_dir / f".{NAME}.lock"):
        builder = ImgclsDigits(data_dir=data_dir, file_format="array_record")
        if not builder.is_prepared():
            tfds.disable_progress_bar()
            with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download.
                builder.download_and_prepare()
