"""tfds sets: the built-in one stands for a prepared catalog set, small ones are written here."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from imgcls_jax.data.sources.tfds import TFDS
from imgcls_jax.errors import UserError


class TinySet(tfds.core.GeneratorBasedBuilder):
    """Four images with two labels, one of which is unknown in the split `unlabeled`."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "kind": tfds.features.ClassLabel(names=["ham", "egg"]),
            "number": np.int64,
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples([0, 1, 0, 1]), "unlabeled": self._generate_examples([0, -1])}

    def _generate_examples(self, labels):
        for i, label in enumerate(labels):
            file = io.BytesIO()
            Image.new("RGB", (3 + i, 2), (i, 0, 0)).save(file, "PNG")
            file.seek(0)
            yield i, {"picture": file, "kind": label, "number": i}


def prepare(folder: Path, file_format: str) -> Path:
    TinySet(data_dir=folder, file_format=file_format).download_and_prepare()
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return prepare(tmp_path_factory.mktemp("tiny"), "array_record")


def of_tiny(folder: Path, train: str = "train", **changes) -> TFDS:
    names = {"image_key": "picture", "label_key": "kind"}
    return TFDS("tiny_set", train, None, None, data_dir=str(folder), **(names | changes))


def message_of(source: TFDS) -> str:
    with pytest.raises(UserError) as caught:
        source.open()
    return str(caught.value)


def test_reads_what_tfds_reads(tiny):
    source = of_tiny(tiny).open()
    reference = list(tfds.builder("tiny_set", data_dir=tiny).as_data_source("train"))
    assert source.class_names == ("ham", "egg")
    assert source.train.labels.tolist() == [example["kind"] for example in reference]
    for content, example in zip(source.train.read([0, 1, 2, 3]), reference, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), example["picture"])


def test_parts_have_the_ids_of_the_whole(digits_dir):
    def of(spec: str):
        return TFDS("imgcls_digits", spec, None, None, data_dir=str(digits_dir)).open().train

    whole, part, joined = of("train"), of("train[10:20]"), of("train[5:7]+test[:2]")
    assert part.ids == whole.ids[10:20]
    assert part.read([3, 0]) == whole.read([13, 10])
    assert part.labels.tolist() == whole.labels[10:20].tolist()
    assert joined.ids == [*whole.ids[5:7], *of("test").ids[:2]]
    assert len({whole.fingerprint(), part.fingerprint(), joined.fingerprint(), of("test").fingerprint()}) == 4


def test_version_may_be_named(digits_dir):
    source = TFDS("imgcls_digits:1.0.0", "train[:80%]", "train[80%:]", "test", data_dir=str(digits_dir)).open()
    assert source.title == "the tfds set imgcls_digits/1.0.0"
    assert len(source.train) + len(source.validation) == 1438


def test_data_dir_from_the_environment(tiny, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tiny))
    names = {"image_key": "picture", "label_key": "kind"}
    assert len(TFDS("tiny_set", "train", None, None, **names).open().train) == 4


def test_overlapping_splits(digits_dir):
    source = TFDS("imgcls_digits", "train", "train[:10]", "test", data_dir=str(digits_dir))
    assert message_of(source) == (
        '10 examples of the tfds set imgcls_digits/1.0.0 are both in train ("train") and in validation ("train[:10]"): '
        "give splits that have none in common"
    )


def test_unknown_set(tmp_path):
    message = message_of(TFDS("cifr10", "train", None, None, data_dir=str(tmp_path)))
    assert message == (
        f'there is no tfds set "cifr10", neither in the catalog nor in {tmp_path} (did you mean "cifar10"?)'
    )
    assert 'did you mean "imgcls_digits"?' in message_of(
        TFDS("imgcls_digit", "train", None, None, data_dir=str(tmp_path))
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cifar10:9.9.9", "cannot be loaded at version 9.9.9, only: 3.0.2"),
        ("cifar10/foo", "BuilderConfig foo not found"),
    ],
)
def test_unknown_version_or_configuration(tmp_path, name, reason):
    message = message_of(TFDS(name, "train", None, None, data_dir=str(tmp_path)))
    assert message.startswith(f'the tfds set "{name}" cannot be opened: ')
    assert reason in message


def test_not_prepared(tmp_path):
    assert message_of(TFDS("mnist", "train", None, "test", data_dir=str(tmp_path))) == (
        f'the tfds set "mnist" is not prepared in {tmp_path}: run `pip install "imgcls_jax[prepare]"` and `tfds build '
        f"mnist --file_format=array_record --data_dir={tmp_path}`, or set data.source.data_dir"
    )
    by_hand = message_of(TFDS("imagenet2012", "train", None, None, data_dir=str(tmp_path)))
    assert f"its files must be downloaded by hand to {tmp_path}/downloads/manual (manual_dir should contain" in by_hand
    assert "ILSVRC2012_img_train.tar" in by_hand


def test_not_prepared_and_no_downloads(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_OFFLINE", "1")
    assert message_of(TFDS("imagenette/160px-v2", "train", None, None, data_dir=str(tmp_path))) == (
        f'the tfds set "imagenette/160px-v2" is not prepared in {tmp_path}: $IMGCLS_OFFLINE forbids downloads; run '
        f"`imgcls data prepare imagenette/160px-v2 --data-dir {tmp_path}` where there is a connection (1,485 MiB to "
        "download), or set data.source.data_dir"
    )


def test_prepared_in_another_format(tmp_path, tiny):
    # Preparing TFRecord files needs TensorFlow, so that only the note of the format is changed.
    folder = prepare(tmp_path, "array_record")
    (info,) = folder.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    message = message_of(of_tiny(folder))
    assert message.startswith(
        f'the tfds set "tiny_set" in {folder} is prepared as tfrecord, which cannot be read at random'
    )
    assert "tfds convert_format --dataset_dir=" in message


@pytest.mark.parametrize("spec", ["tran", "train[:x]", "train[:200%]", "train[:0]", "", "train["])
def test_unknown_split(tiny, spec):
    assert message_of(of_tiny(tiny, spec)) == (
        f'the tfds set tiny_set/1.0.0 has no train split "{spec}": its splits are train, unlabeled; a part is written '
        'like "train[:80%]"'
    )


def test_damaged_file(tmp_path):
    folder = prepare(tmp_path, "array_record")
    (file,) = folder.rglob("*train.array_record*")
    os.truncate(file, file.stat().st_size // 2)
    message = message_of(of_tiny(folder))
    assert message.startswith("a file of the tfds set tiny_set/1.0.0 is damaged or missing (")
    assert message.endswith(f": delete {folder}/tiny_set/1.0.0 and prepare it again")


def test_features(tiny):
    assert message_of(of_tiny(tiny, image_key="image")) == (
        'the tfds set tiny_set/1.0.0 has no feature "image" (data.source.image_key): its features of kind Image '
        "are picture"
    )
    assert message_of(of_tiny(tiny, label_key="number")) == (
        'feature "number" of the tfds set tiny_set/1.0.0 (data.source.label_key) is Tensor, not ClassLabel'
    )


def test_unlabeled(tiny):
    message = '1 examples of the train split "unlabeled" of the tfds set tiny_set/1.0.0 have no label'
    assert message_of(of_tiny(tiny, "unlabeled")) == message


def test_missing(tmp_path, tiny):
    assert (
        'the tfds set "cifar10" is not prepared in'
        in TFDS("cifar10", "train", None, "test", data_dir=str(tmp_path)).missing()
    )
    assert TFDS("imgcls_digits", "train", None, "test", data_dir=str(tmp_path)).missing() is None
    assert of_tiny(tiny).missing() is None
    assert list(tmp_path.iterdir()) == []
