"""What is chosen for images of all kinds, by the rules that docs/photos.md states."""

import dataclasses
import importlib.util

import numpy as np
import pytest
from PIL import Image

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.config import io, write
from imgcls_jax.errors import UserError
from imgcls_jax.training.validate import validate
from imgcls_jax.tune import suggest
from imgcls_jax.tune.suggest import recipes, rules


def folder(root, counts, size=(120, 100), gray=False, splits=("",)):
    """Random images in folders of these classes."""
    rng = np.random.default_rng(0)
    for split in splits:
        for name, count in counts.items():
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (size[1], size[0], 1 if gray else 3), np.uint8)
                Image.fromarray(pixels[..., 0] if gray else pixels).save(root / split / name / f"{i}.png")
    return root


def installed(monkeypatch, is_there):
    found = importlib.util.find_spec("json") if is_there else None
    monkeypatch.setattr(rules.importlib.util, "find_spec", lambda name: found)


def chosen(root, **steering):
    suggestion = suggest.suggest(suggest.look(suggest.source_of(root)), **steering)
    validate(suggestion.config, 1)
    return suggestion


@pytest.mark.parametrize(
    ("there", "size", "weights"),
    [(True, (120, 100), recipes.LITE0), (False, (120, 100), None), (True, (95, 200), None)],
)
def test_the_network(tmp_path, monkeypatch, there, size, weights):
    installed(monkeypatch, there)
    suggestion = chosen(folder(tmp_path / "photos", {"a": 4, "b": 4}, size))
    assert suggestion.config.transfer.init_from == weights
    assert isinstance(suggestion.config.model, c.EfficientNetLite if weights else c.CNN)
    if weights:  # 16 blocks
        first = ("conv_stem.*", "bn0.*", *(f"blocks.{i}.*" for i in range(11)))
        assert suggestion.config.transfer.freeze == first
    why = suggestion.table["network"]
    assert f"{size[0]}×{size[1]}" in why if there else "pip install 'imgcls_jax[pretrained]'" in why
    assert suggestion.config.name == "photos"


def test_the_last_third_of_a_pretrained_network_trains(tmp_path, monkeypatch):
    installed(monkeypatch, True)
    root = folder(tmp_path / "photos", {"a": 40, "b": 40})
    config = chosen(root, model="torchvision/resnet18.IMAGENET1K_V1", size=64).config
    assert config.transfer.freeze == ("conv1.*", "bn1.*", "layer1.*", "layer2.*", "layer3.*")
    assert config.data.image_size == (64, 64)
    assert (config.batch_size, config.epochs) == (16, 30)


def test_shares_balance_and_color(tmp_path):
    cases = {
        "one": ({"a": 10, "b": 10}, ("",), (0.2, 0.2)),
        "few": ({"a": 9, "b": 10}, ("",), (0.2, 0.0)),
        "tested": ({"a": 10, "b": 10}, ("train", "test"), (0.2, 0.0)),
        "validated": ({"a": 10, "b": 10}, ("train", "val"), (0.0, 0.0)),
        "unequal": ({"a": 10, "b": 40}, ("train", "val"), (0.0, 0.0)),
    }
    for name, (counts, splits, shares) in cases.items():
        config = chosen(folder(tmp_path / name, counts, (20, 16), name == "one", splits)).config
        assert (config.data.validation_share, config.data.test_share) == shares
        assert config.data.sampling == ("balanced" if name == "unequal" else "shuffle")
        assert config.best.metric == ("balanced_accuracy" if name == "unequal" else "top1")
        gray = name == "one"
        assert config.data.canvas == c.Canvas(16, 16, channels=1 if gray else 3)
        assert any(isinstance(part, c.HorizontalFlip) for part in config.augment) is not gray


def test_large_photographs_are_decoded_at_a_part_of_their_size(tmp_path):
    root = folder(tmp_path / "photos", {"a": 2, "b": 2}, (300, 260))
    assert chosen(root, model="small").config.data.canvas.jpeg_decoding == "reduced"
    assert chosen(root, model="small", size=200).config.data.canvas.jpeg_decoding == "full"


def test_mean_and_deviation_are_those_of_the_images(tmp_path):
    root = folder(tmp_path / "photos", {"a": 3, "b": 5}, (20, 16))
    pixels = np.concatenate([np.asarray(Image.open(file)).reshape(-1, 3) for file in root.rglob("*.png")]) / 255
    config = chosen(root).config
    np.testing.assert_allclose(config.data.mean, pixels.mean(0), atol=6e-4)
    np.testing.assert_allclose(config.data.std, pixels.std(0), atol=6e-4)


def test_arrays_tables_and_catalog_sets(tmp_path, tiny_arrays, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ic.suggest_config(tiny_arrays).data.source == c.Arrays()
    steered = ic.suggest_config(tiny_arrays, epochs=1, learning_rate=0.01)
    assert (steered.epochs, steered.optim.schedule.peak) == (1, 0.01)
    np.savez("images.npz", **tiny_arrays)
    assert ic.suggest_config("images.npz").data.source == c.Arrays(str(tmp_path / "images.npz"))
    folder(tmp_path / "photos", {"a": 2, "b": 2}, (8, 8))
    rows = "\n".join(f"{name}/{i}.png,{name}" for name in "ab" for i in range(2))
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}\n")
    source = suggest.source_of("photos", "labels.csv")
    assert source == c.Table(str(tmp_path / "labels.csv"), folder=str(tmp_path / "photos"))
    assert suggest.name_of(source) == "photos"
    (tmp_path / "photos" / "table.tsv").write_text((tmp_path / "labels.csv").read_text().replace(",", "\t"))
    assert suggest.name_of(suggest.source_of("photos/table.tsv")) == "table"
    assert suggest.source_of("imgcls_digits").test == "test"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nothing.csv", "nothing.csv does not exist: give a folder of images, a table"),
        ("imgcls_digit", 'is neither a folder nor a file here, and there is no tfds set "imgcls_digit".*did you mean'),
        ("notes.txt", r"is neither a folder of images nor a table \(.csv, .tsv, .jsonl, .parquet\) nor an .npz"),
        ("empty", "no sampled image|holds no images"),
    ],
)
def test_data_that_are_none(tmp_path, monkeypatch, data, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        ic.suggest_config(data)
    with pytest.raises(UserError, match="is no folder: with a table of classes, give the folder of its images"):
        suggest.source_of("notes.txt", "labels.csv")


def test_a_written_config_is_the_config(tmp_path, monkeypatch):
    installed(monkeypatch, True)
    root = folder(tmp_path / 'photos "of" mine\\', {"a": 2, "b": 2})
    suggestion = chosen(root)
    (tmp_path / "own.py").write_text(suggestion.python("imgcls train"))
    assert io.load(tmp_path / "own.py") == suggestion.config
    text = (tmp_path / "own.py").read_text()
    assert max(map(len, text.splitlines())) <= 120
    commented = {path for path in suggestion.reasons if suggestion.reasons[path].split()[0] in text}
    assert len(commented) >= 8


@pytest.mark.parametrize("name", ["cifar100_r50", "cifar10_speedrun", "sketch_dinov2", "cats_dogs_cnn", "cifar10_cnn"])
def test_shipped_configs_are_written_as_they_are(tmp_path, name):
    config = io.load(f"configs/{name}.py")
    config = dataclasses.replace(config, name='"""\\ “quoted”')
    (tmp_path / "copy.py").write_text(write.python(config, 'A """copy""".', {"optim.schedule": "why " * 80}))
    assert io.load(tmp_path / "copy.py") == config
