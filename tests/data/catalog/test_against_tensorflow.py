"""Catalog sets prepared here, beside those that tfds with TensorFlow prepares from the same archives.

Needs a Python that has both, named by $IMGCLS_TEST_TENSORFLOW. Images of cats_vs_dogs may differ a little: tfds encodes
them anew, from what TensorFlow's fast approximation of the JPEG transform decodes.
"""

import io
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.image_classification import cats_vs_dogs

from imgcls_jax.data.catalog import entries, prepare
from imgcls_jax.data.examples import no_progress

PIXELS = np.random.default_rng(0).integers(0, 256, (6_000, 3, 32, 32), dtype=np.uint8)

_REFERENCE = """
import sys
from pathlib import Path
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums
from tensorflow_datasets.image_classification import cats_vs_dogs
cats_vs_dogs._NUM_CORRUPT_IMAGES = 1
archives, out, *names = sys.argv[1:]
files = {path.name: path for path in Path(archives).iterdir()}
for name in names:
    builder = tfds.builder(name, data_dir=out, file_format="array_record")
    known = checksums.get_all_url_infos() | (builder.url_infos or {})
    infos = {url: checksums.compute_url_info(path) for url in known if (path := files.get(url.rpartition("/")[2]))}
    checksums.get_all_url_infos().update(infos)
    type(builder).url_infos = infos
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=archives))
"""


def write_cifar(folder: Path) -> None:
    """CIFAR-100's archive of 6,000 images, of random pixels."""
    rows = np.concatenate(
        [(np.arange(6_000) % 20)[:, None], (np.arange(6_000) % 100)[:, None], PIXELS.reshape(6_000, -1)], 1
    ).astype(np.uint8)
    contents = {
        "train.bin": rows[:5_000].tobytes(),
        "test.bin": rows[5_000:].tobytes(),
        "fine_label_names.txt": "".join(f"fine_{k}\n" for k in range(100)).encode(),
        "coarse_label_names.txt": "".join(f"coarse_{k}\n" for k in range(20)).encode(),
    }
    with tarfile.open(folder / "cifar-100-binary.tar.gz", "w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-100-binary/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_cats_vs_dogs(folder: Path) -> None:
    """Smooth color pictures, a gray one, and one that is no image."""
    grid = np.stack(np.meshgrid(np.arange(90), np.arange(70)), -1)
    with zipfile.ZipFile(folder / "kagglecatsanddogs_5340.zip", "w") as archive:
        for k in range(40):
            waves = np.sin(grid.sum(-1) / (3 + k))[..., None] * np.array([100, 60, 30]) + 128
            image = Image.fromarray(waves.astype(np.uint8))
            file = io.BytesIO()
            (image.convert("L") if k == 7 else image).save(file, "JPEG")
            archive.writestr(f"PetImages/{('Cat', 'Dog')[k % 2]}/{k}.jpg", file.getvalue())
        archive.writestr("PetImages/Dog/99.jpg", b"no image at all")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "tolerance"), [("cifar100", write_cifar, 0), ("cats_vs_dogs", write_cats_vs_dogs, 2)]
)
def test_names_order_and_pixels(tmp_path, monkeypatch, name, write, tolerance):
    python = os.environ.get("IMGCLS_TEST_TENSORFLOW")
    if not python:
        pytest.skip("set IMGCLS_TEST_TENSORFLOW to a Python with tensorflow and tensorflow-datasets")
    archives = tmp_path / "archives"
    archives.mkdir()
    write(archives)
    subprocess.run([python, "-c", _REFERENCE, archives, tmp_path / "reference", name], check=True, capture_output=True)

    monkeypatch.setattr(cats_vs_dogs, "_NUM_CORRUPT_IMAGES", 1)
    files = {path.name: tfds.download.checksums.compute_url_info(path) for path in archives.iterdir()}
    urls = tfds.download.checksums.get_all_url_infos()
    known = {url: files[file] for url in urls if (file := url.rpartition("/")[2]) in files}
    monkeypatch.setattr(entries, "files", lambda _: known)
    (tmp_path / "ours/downloads").mkdir(parents=True)
    archives.rename(tmp_path / "ours/downloads" / name)  # where a file that is already there is found
    prepare.prepare(name, tmp_path / "ours", no_progress)

    ours, theirs = (tfds.builder(name, data_dir=tmp_path / place) for place in ("ours", "reference"))
    assert ours.info.full_name == theirs.info.full_name
    assert (ours.data_path / "features.json").read_text() == (theirs.data_path / "features.json").read_text()
    for split in theirs.info.splits:
        assert ours.info.splits[split].shard_lengths == theirs.info.splits[split].shard_lengths
        assert ours.info.splits[split].filenames == theirs.info.splits[split].filenames
        pairs = zip(*(builder.as_data_source(split) for builder in (ours, theirs)), strict=True)
        for mine, reference in pairs:
            assert mine.keys() == reference.keys()
            for key in mine.keys() - {"image"}:
                assert mine[key] == reference[key]
            difference = np.abs(np.asarray(mine["image"], int) - np.asarray(reference["image"], int))
            assert difference.mean() <= tolerance
