"""Sets of the tfds catalogue (and any that tfds prepared), read from ArrayRecord files without TensorFlow."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax.config.data import TFDS
from imgcls_jax.data.source import Examples, Source, did_you_mean, digest
from imgcls_jax.errors import UserError

DIGITS = "imgcls_digits"
_LABEL_CHUNK = 4096


def open_tfds(config: TFDS) -> Source:
    """The splits that `config` names. Labels are all read at once, images when they are asked for.

    Raises UserError for an unknown set, version or split, one that is not prepared or not in ArrayRecord format, an
    image or label feature that is missing or of another kind, unlabelled examples, or training examples that are also
    in another split.
    """
    import tensorflow_datasets as tfds  # Here: it takes seconds to import, and other sources don't need it.

    data_dir = Path(config.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if config.name.partition(":")[0] == DIGITS:
        from imgcls_jax.data import digits

        digits.prepare(data_dir)
    builder = prepared(tfds, config.name, data_dir)
    features = builder.info.features
    title = f"the tfds set {builder.info.full_name}"
    _check_feature(features, config.image_key, "image_key", tfds.features.Image, title)
    _check_feature(features, config.label_key, "label_key", tfds.features.ClassLabel, title)
    class_names = tuple(features[config.label_key].names)
    splits = {
        name: _examples(tfds, builder, name, spec, config, title)
        for name, spec in (("train", config.train), ("validation", config.validation), ("test", config.test))
        if spec is not None
    }
    _refuse_overlap(splits, config, title)
    return Source(splits["train"], splits.get("validation"), splits.get("test"), class_names, title)


def prepared(tfds: Any, name: str, data_dir: Path) -> Any:
    """tfds's builder of a set that is there and can be read; a UserError otherwise. No image is read."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        known = {*tfds.list_builders(with_community_datasets=False), DIGITS, *_prepared(data_dir)}
        base = name.partition(":")[0].partition("/")[0]
        raise UserError(
            f'there is no tfds set "{name}", neither in the catalogue nor in {data_dir}{did_you_mean(base, known)}'
        ) from None
    except Exception as error:  # An unknown version or configuration: AssertionError, ValueError …
        reason = str(error).rpartition('}": ')[2].strip().rstrip(".").replace("\n", " ")
        raise UserError(f'the tfds set "{name}" cannot be opened: {reason}') from error
    if not builder.is_prepared():
        raise UserError(
            f'the tfds set "{name}" is not prepared in {data_dir}: run `pip install "imgcls_jax[prepare]"` and '
            f"`tfds build {name} --file_format=array_record --data_dir={data_dir}`, or set data.source.data_dir"
        )
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise UserError(
            f'the tfds set "{name}" in {data_dir} is prepared as {builder.info.file_format.value}, which cannot be '
            f"read at random: run `tfds convert_format --dataset_dir={builder.data_dir} --out_file_format=array_record "
            "--out_dir=…` and give that folder as data.source.data_dir"
        )
    return builder


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


def _examples(tfds: Any, builder: Any, name: str, spec: str, config: TFDS, title: str) -> Examples:
    # The serialised tf.train.Example of a tfds set has one entry a feature under its name: a ClassLabel is one
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
    if (labels < 0).any():
        raise UserError(f'{int((labels < 0).sum())} examples of the {name} split "{spec}" of {title} have no label')

    files = [Path(i.filename) for i in instructions]
    return Examples(
        name=name,
        labels=labels,
        ids=[f"{f.name}#{i.skip + k}" for f, i in zip(files, instructions, strict=True) for k in range(i.take)],
        fingerprint=lambda: digest(
            f"{file} {file.stat().st_size} {file.stat().st_mtime_ns} {i.skip} {i.take} {config.image_key}"
            for file, i in zip(files, instructions, strict=True)
        ),
        read=lambda indices: column(indices, config.image_key, "bytes_list"),
    )


def _refuse_overlap(splits: dict[str, Examples], config: TFDS, title: str) -> None:
    train = set(splits["train"].ids)
    for name in splits.keys() - {"train"}:
        if common := len(train.intersection(splits[name].ids)):
            raise UserError(
                f'{common} examples of {title} are both in train ("{config.train}") and in {name} '
                f'("{getattr(config, name)}"): give splits that have none in common'
            )
