"""Sets of the tfds catalog (and any that tfds prepared), read from ArrayRecord files without TensorFlow."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import download
from imgcls_jax.config.data import Data, PathText, Source
from imgcls_jax.data.catalog.entries import ENTRIES, base_name
from imgcls_jax.data.examples import Examples, Progress, Splits, digest, no_progress
from imgcls_jax.data.files import described
from imgcls_jax.data.ids import RecordIds
from imgcls_jax.errors import UserError, did_you_mean

BUILT_IN = "imgcls_digits"
"""The set that comes with this package; see `imgcls_jax.data.digits`."""

_LABEL_CHUNK = 4096


class TFDS(Source):
    """A tfds catalog set, downloaded and prepared if need be (see docs/data.md), or the built-in `imgcls_digits`."""

    name: str
    """Name in the catalog, with an optional version: "cifar10", "cifar10:3.0.2", "imagenette/160px-v2"."""
    train: str
    """Split string of the training images, such as "train" or "train[:80%]"."""
    validation: str | None
    """Split string of the validation images; None: hold out `Data.validation_share` of the training images."""
    test: str | None
    """Split string of the test images; None: no test set."""
    data_dir: PathText | None = None
    """Where tfds keeps its sets; None: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    image_key: str = "image"
    """Name of the image feature."""
    label_key: str = "label"
    """Name of the label feature; it must be a ClassLabel."""

    def open(self, arrays: Mapping[str, np.ndarray] | None = None, on_progress: Progress | None = None) -> Splits:
        """Read all labels of the splits; images are read when they are asked for.

        A set that is not there is downloaded and prepared first, where it is one of `imgcls data list`.

        Raises:
          UserError: the set, version or split is unknown, cannot be prepared or is not in ArrayRecord format; the image
            or label feature is missing or of another kind; examples are unlabeled; or training examples are also in
            another split.
        """
        on_progress = on_progress or no_progress
        on_progress(f"opening the tfds set {self.name}", 0, None)
        import tensorflow_datasets as tfds  # Here: it takes seconds to import, and other sources don't need it.

        self.prepare(on_progress)
        builder = prepared_builder(tfds, self.name, self._folder())
        features = builder.info.features
        title = f"the tfds set {builder.info.full_name}"
        _check_feature(features, self.image_key, "image_key", tfds.features.Image, title)
        _check_feature(features, self.label_key, "label_key", tfds.features.ClassLabel, title)
        class_names = tuple(features[self.label_key].names)
        splits = {
            name: _examples(tfds, builder, name, spec, self, title, on_progress)
            for name, spec in (("train", self.train), ("validation", self.validation), ("test", self.test))
            if spec is not None
        }
        _refuse_overlap(splits, self, title)
        return Splits(splits["train"], splits.get("validation"), splits.get("test"), class_names, title)

    def prepare(self, on_progress: Progress) -> None:
        """Download and prepare the set, if it is not there and is one of `imgcls data list`.

        Raises:
          UserError: it cannot be downloaded or prepared.
        """
        if self._is_built_in():
            from imgcls_jax.data import digits

            digits.prepare(self._folder(), on_progress)
        elif can_prepare(self.name) and not is_prepared(self.name, self._folder()) and not download.is_offline():
            from imgcls_jax.data.catalog.prepare import prepare

            prepare(self.name, self._folder(), on_progress)

    def check(self, data: Data) -> None:
        """Refuse a split that is named here and also held out."""
        for name in ("validation", "test"):
            split, share = getattr(self, name), getattr(data, f"{name}_share")
            if split and share:
                raise UserError(
                    f"data.source.{name} = {split!r} and data.{name}_share = {share} both name {name} images: "
                    f"set one of them to None or 0"
                )

    def missing(self) -> str | None:
        """Return whether the set is prepared, without reading its labels."""
        if self._is_built_in():
            return None  # It is prepared when it is opened.
        import tensorflow_datasets as tfds

        try:
            prepared_builder(tfds, self.name, self._folder())
        except UserError as error:
            return str(error)
        return None

    def _is_built_in(self) -> bool:
        return self.name.partition(":")[0] == BUILT_IN

    def _folder(self) -> Path:
        return Path(self.data_dir).expanduser() if self.data_dir else default_folder()


def splits_of(name: str, on_progress: Progress = no_progress) -> list[str]:
    """List the splits of a set in the folder of all sets, after preparing it if need be.

    Raises:
      UserError: the set is unknown, or cannot be prepared.
    """
    source = TFDS(name, train="train", validation=None, test=None)
    source.prepare(on_progress)
    import tensorflow_datasets as tfds

    return list(prepared_builder(tfds, name, source._folder()).info.splits)


def default_folder() -> Path:
    """Return the folder of tfds's sets: $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def can_prepare(name: str) -> bool:
    """Return whether a set, with or without a version or configuration, can be prepared without TensorFlow."""
    return base_name(name) in ENTRIES


def is_prepared(name: str, data_dir: Path) -> bool:
    """Return whether a set of the catalog is there, in any format.

    Raises:
      UserError: there is no such set, version or configuration.
    """
    return is_written(open_builder(name, data_dir))


def prepared_builder(tfds: Any, name: str, data_dir: Path) -> Any:
    """Make tfds's builder of a set that is there and can be read. No image is read.

    Raises:
      UserError: there is no such set, it is not prepared, or not in ArrayRecord format.
    """
    builder = open_builder(name, data_dir)
    if not is_written(builder):
        raise UserError(f'the tfds set "{name}" is not prepared in {data_dir}: {_how_to_prepare(builder, data_dir)}')
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f'the tfds set "{name}" in {data_dir} is prepared as {builder.info.file_format.value}, which cannot be '
            f"read at random: run `tfds convert_format --dataset_dir={builder.data_dir} --out_file_format=array_record "
            "--out_dir=…` and give that folder as data.source.data_dir"
        )
    return builder


def open_builder(name: str, data_dir: Path, **options: Any) -> Any:
    """Make tfds's builder of a set that is prepared or in the catalog; `options` are those of `tfds.builder`.

    Raises:
      UserError: there is no such set, version or configuration.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir, **options)
    except tfds.core.DatasetNotFoundError:
        known = {*tfds.list_builders(with_community_datasets=False), BUILT_IN, *_prepared(data_dir)}
        raise UserError(
            f'there is no tfds set "{name}", neither in the catalog nor in {data_dir}'
            f"{did_you_mean(base_name(name), known)}"
        ) from None
    except Exception as error:  # An unknown version or configuration: AssertionError, ValueError …
        reason = str(error).rpartition('}": ')[2].strip().rstrip(".").replace("\n", " ")
        raise UserError(f'the tfds set "{name}" cannot be opened: {reason}') from error


def is_written(builder: Any) -> bool:
    """Return whether the set of a builder is there."""
    from absl import logging  # by which tfds warns of every set that is not

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        return builder.is_prepared()
    finally:
        logging.set_verbosity(verbosity)


def _how_to_prepare(builder: Any, data_dir: Path) -> str:
    """What to do about a set that is not there."""
    name = builder.info.full_name.rpartition("/")[0]
    flag = "" if data_dir == default_folder() else f" --data-dir {data_dir}"
    if can_prepare(name):
        offline = "$IMGCLS_OFFLINE forbids downloads; " if download.is_offline() else ""
        return (
            f"{offline}run `imgcls data prepare {name}{flag}` where there is a connection "
            f"({ENTRIES[base_name(name)].archives}), or set data.source.data_dir"
        )
    by_hand = " ".join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or "").split()).rstrip(".")
    first = f"its files must be downloaded by hand to {data_dir}/downloads/manual ({by_hand}); then " if by_hand else ""
    return (
        f'{first}run `pip install "imgcls_jax[prepare]"` and '
        f"`tfds build {name} --file_format=array_record --data_dir={data_dir}`, or set data.source.data_dir"
    )


def _prepared(data_dir: Path) -> list[str]:
    return [entry.name for entry in data_dir.iterdir() if entry.is_dir()] if data_dir.is_dir() else []


def _check_feature(features: Any, key: str, setting: str, kind: type, title: str) -> None:
    if key not in features:
        fitting = [name for name, feature in features.items() if isinstance(feature, kind)]
        raise UserError(
            f'{title} has no feature "{key}" (data.source.{setting}): its features of kind {kind.__name__} are '
            + (", ".join(fitting) or "none")
        )
    if not isinstance(features[key], kind):
        raise UserError(
            f'feature "{key}" of {title} (data.source.{setting}) is {type(features[key]).__name__}, not {kind.__name__}'
        )


def _examples(
    tfds: Any, builder: Any, name: str, spec: str, config: TFDS, title: str, on_progress: Progress
) -> Examples:
    # The serialized tf.train.Example of a tfds set has one entry a feature under its name: a ClassLabel is one
    # integer and an Image the bytes of its file. Taking just these two is 20 times as fast as tfds's own parser.
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        instructions = builder.info.splits[spec].file_instructions
        source = builder.as_data_source(spec, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)
    except Exception as error:  # KeyError, ValueError, AssertionError, by the kind of mistake.
        raise UserError(
            f'{title} has no {name} split "{spec}": its splits are {", ".join(builder.info.splits)}; a part is written '
            'like "train[:80%]"'
        ) from error

    def column(indices: Sequence[int], key: str, kind: str) -> list[Any]:
        try:
            records = source.__getitems__(list(indices))
            return [
                getattr(tf_example_pb2.Example.FromString(record).features.feature[key], kind).value[0]
                for record in records
            ]
        except (RuntimeError, IndexError, DecodeError) as error:
            raise UserError(
                f"a file of {title} is damaged or missing ({error}): delete {builder.data_dir} and prepare it again"
            ) from error

    labels = np.empty(len(source), np.int32)
    for start in range(0, len(source), _LABEL_CHUNK):
        chunk = range(start, min(start + _LABEL_CHUNK, len(source)))
        labels[start : chunk.stop] = column(chunk, config.label_key, "int64_list")
        on_progress(f"reading the {name} labels of {title}", chunk.stop, len(source))
    if (labels < 0).any():
        raise UserError(f'{int((labels < 0).sum())} examples of the {name} split "{spec}" of {title} have no label')

    files = [Path(i.filename) for i in instructions]
    return Examples(
        name=name,
        labels=labels,
        ids=RecordIds((f.name, i.skip, i.take) for f, i in zip(files, instructions, strict=True)),
        fingerprint=lambda: digest(
            f"{file} {described(file).version} {i.skip} {i.take} {config.image_key}"
            for file, i in zip(files, instructions, strict=True)
        ),
        read=lambda indices: column(indices, config.image_key, "bytes_list"),
    )


def _refuse_overlap(splits: dict[str, Examples], config: TFDS, title: str) -> None:
    train = splits["train"].ids
    for name in splits.keys() - {"train"}:
        ids = splits[name].ids
        assert isinstance(train, RecordIds) and isinstance(ids, RecordIds)
        if common := train.common(ids):
            raise UserError(
                f'{common} examples of {title} are both in train ("{config.train}") and in {name} '
                f'("{getattr(config, name)}"): give splits that have none in common'
            )
