"""Config files: every mistake is one sentence; JSON and back is the identity."""

import json
from pathlib import Path

import pytest

from imgcls_jax import config as c
from imgcls_jax.config import base, files
from imgcls_jax.errors import UserError

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
DIGITS = str(Path(__file__).parents[2] / "configs" / "digits_cnn.py")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_survives_json(path, tmp_path):
    config = files.load(str(path))
    (tmp_path / "config.json").write_text(json.dumps(files.document(config)))
    assert files.restore(tmp_path / "config.json") == config


def test_variant_and_overrides():
    config = files.load(
        str(CONFIGS[0].parent / "cifar10_cnn.py:as_reported"),
        [
            "optim.schedule.peak=3e-4",
            "model.convs[1].channels=16",
            "name=2024",
            'optim.clip={"by": "value", "limit": 1}',
        ],
    )
    assert config.epochs == 50
    assert config.optim.schedule.peak == 3e-4
    assert config.model.convs[1].channels == 16
    assert config.name == "2024"
    assert config.optim.clip == c.Clip("value", 1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.schedule.peek=1", "optim.schedule has no setting 'peek'; did you mean peak?"),
        ("optimm.accumulate=1", "the config has no setting 'optimm'; did you mean optim?"),
        ("optim.schedule.peak=abc", "optim.schedule.peak must be a valid number, not 'abc'"),
        ("batch_size=3.5", "batch_size must be a valid integer, not 3.5"),
        ("batch_size=0", "batch_size must be greater than 0, not 0"),
        ("batch_size=true", "batch_size must be a valid integer, not True"),
        ("precision=fp8", "precision must be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
        ("model.convs[7].channels=3", "model.convs has 3 entries, counted from 0; there is no 7"),
        ("optim.clip.limit=1", "optim.clip is None and has no settings of its own"),
        ('model={"family": "cn"}', "model must be one of CNN, ResNet"),
        ('optim.clip={"by": "norm", "limit": 1}', "optim.clip.by must be 'global_norm', 'value' or 'adaptive'"),
        ('optim.clip={"by": "value"}', "optim.clip.limit of Clip is missing"),
        (
            'optim.clip={"by": "value", "limit": 1, "lim": 2}',
            "optim.clip.lim is not a setting of Clip; did you mean limit?",
        ),
        ("optim.schedule.peak", "lacks a value"),
        ("optim.schedule.peak=nan", "optim.schedule.peak must be a"),
    ],
)
def test_bad_override(override, message):
    with pytest.raises(UserError) as error:
        files.load(DIGITS, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def get_config(variant=''): return 3", "must return a Config, not int"),
        ("x = 1", "has no function get_config"),
        ("def get_config(:", "line 1"),
        ("from imgcls_jax import config as c\ndef get_config(v): return c.Head(dropuot=0.1)", "did you mean dropout?"),
        (
            "from imgcls_jax import config as c\ndef get_config(v): return c.Head(dropout=2)",
            "dropout must be less than 1",
        ),
        ("from imgcls_jax import config as c\ndef get_config(v): return c.Conv(3)", "kernel of Conv is missing"),
        ("from imgcls_jax import config as c\ndef get_config(v): return c.Sgd()", "has no attribute 'Sgd'"),
        ("import nothing_of_this_name\n", "No module named"),
    ],
)
def test_bad_config_file(source, message, tmp_path):
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(UserError, match="bad.py") as error:
        files.load(str(tmp_path / "bad.py"))
    assert message in str(error.value)


def test_missing_file_and_variant():
    with pytest.raises(UserError, match=r"there is no config file .*digit_cnn.py; did you mean .*digits_cnn.py\?"):
        files.load(DIGITS.replace("digits", "digit"))
    with pytest.raises(UserError, match="the config has no variant 'big'; it has none"):
        files.load(f"{DIGITS}:big")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("batch_size"), "batch_size of Config is missing"),
        (
            lambda tree: tree.update(batchsize=tree.pop("batch_size")),
            "batchsize is not a setting of Config; did you mean",
        ),
        (lambda tree: tree["optim"]["schedule"].update(peek=1), "optim.schedule.peek is not a setting of Schedule"),
        (lambda tree: tree["model"]["convs"][0].update(norm="layer"), "model.convs[0].norm must be 'batch' or 'none'"),
    ],
)
def test_config_of_an_older_version(change, message, tmp_path):
    document = files.document(files.load(DIGITS)) | {"imgcls_jax": "0.0.9"}
    change(document["config"])
    (tmp_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(UserError) as error:
        files.restore(tmp_path / "config.json")
    assert message in str(error.value)
    assert "was written by imgcls_jax 0.0.9" in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_damaged_saved_config(text, tmp_path):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="is not a saved config"):
        files.restore(tmp_path / "config.json")
    with pytest.raises(UserError, match="is .* the work directory of a run"):
        files.restore(tmp_path / "nowhere" / "config.json")


def test_difference_names_every_changed_setting():
    old = files.load(DIGITS)
    new = files.load(DIGITS, ["epochs=31", "model.convs[0].channels=8", "early_stopping={'patience': 3}"])
    assert files.difference(old, old) == []
    assert files.difference(old, new) == [
        "model.convs[0].channels: 32 → 8",
        "epochs: 30 → 31",
        "early_stopping: None → '(not set)'",
        "early_stopping.patience: '(not set)' → 3",
        "early_stopping.min_delta: '(not set)' → 0.0",
    ]


def test_help_lists_every_setting_of_every_class():
    text = files.describe(files.load(DIGITS))
    for cls in base.CLASSES.values():
        if cls.__name__.startswith("_"):
            continue
        for name, _, doc in files._fields(cls):
            assert name in text
            assert doc in text
