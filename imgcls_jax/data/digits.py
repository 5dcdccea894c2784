"""`imgcls_digits`: the 1,797 handwritten digits of scikit-learn as a tfds set that is prepared without TensorFlow.

Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI Machine Learning Repository; scikit-learn ships
its 1,797 test images, 8×8 in 17 gray levels.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from filelock import FileLock
from jaxtyping import Int64
from PIL import Image

from imgcls_jax.data.examples import Progress, no_progress
from imgcls_jax.data.split import hold_out
from imgcls_jax.errors import UserError

TEST_SHARE = 0.2


class ImgclsDigits(tfds.core.GeneratorBasedBuilder):
    """8×8 grayscale PNG images, gray levels 0 … 16 stretched to 0 … 255; fixed stratified train and test splits."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First version."}

    on_progress: Progress = staticmethod(no_progress)
    """Called while the set is prepared."""

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
            "train": self._generate_examples(digits, train, 0),
            "test": self._generate_examples(digits, test, len(train)),
        }

    def _generate_examples(
        self, digits: Any, indices: Int64[np.ndarray, " k"], before: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for done, index in enumerate(indices.tolist(), before + 1):
            file = io.BytesIO()
            gray = np.rint(digits.images[index] * (255 / 16)).astype(np.uint8)
            Image.fromarray(gray).save(file, "PNG")
            file.seek(0)  # tfds stores the bytes of a file object as they are; an array it would encode by TensorFlow.
            yield index, {"image": file, "label": int(digits.target[index])}
            self.on_progress("preparing the digits", done, len(digits.target))


def prepare(data_dir: Path, on_progress: Progress | None = None) -> None:
    """Write the set below `data_dir` unless it is there. Atomic, and safe with several processes at once.

    Args:
      data_dir: the folder of tfds's sets; made if missing.
      on_progress: called with the images written and the images in all.

    Raises:
      UserError: the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(data_dir / f".{ImgclsDigits.name}.lock"):
            builder = ImgclsDigits(data_dir=data_dir, file_format="array_record")
            if not builder.is_prepared():
                builder.on_progress = on_progress or no_progress
                tfds.disable_progress_bar()
                with contextlib.redirect_stdout(io.StringIO()):  # tfds announces a download.
                    builder.download_and_prepare()
    except OSError as error:
        raise UserError(
            f"the digits cannot be written to {data_dir} ({error.strerror or error}): set $TFDS_DATA_DIR or "
            "data.source.data_dir to a folder that can be written"
        ) from error
