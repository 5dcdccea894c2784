"""Config files: every mistake is one sentence; JSON and back is the identity."""

import json
import os
from pathlib import Path

import pytest

from imgcls_jax import config as c
from imgcls_jax.config import io as files
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
        (
            "optim.schedule.peek=1",
            "--config.optim.schedule.peek: optim.schedule has no setting 'peek' (did you mean \"peak\"?)",
        ),
        (
            "optimm.accumulate=1",
            "--config.optimm.accumulate: the config has no setting 'optimm' (did you mean \"optim\"?)",
        ),
        ("optim.schedule.peak=abc", "optim.schedule.peak must be a number, not 'abc'"),
        ("batch_size=3.5", "batch_size must be a whole number, not 3.5"),
        ("batch_size=0", "batch_size must be greater than 0, not 0"),
        ("batch_size=true", "batch_size must be a whole number, not True"),
        ("precision=fp8", "precision must be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
        ("model.convs[7].channels=3", "model.convs has 3 entries, counted from 0; there is no 7"),
        ("optim.clip.limit=1", "optim.clip is None and has no settings of its own"),
        ('model={"kind": "cn"}', "model must be one of Airbench, CifarResNet, CNN, DINOv2, EfficientNetLite, ResNet"),
        ('optim.clip={"by": "norm", "limit": 1}', "optim.clip.by must be 'global_norm', 'value' or 'adaptive'"),
        ('optim.clip={"by": "value"}', "optim.clip.limit of Clip is missing"),
        (
            'optim.clip={"by": "value", "limit": 1, "lim": 2}',
            'optim.clip.lim is not a setting of Clip (did you mean "limit"?)',
        ),
        ("optim.schedule.peak", "lacks a value"),
        ("optim.schedule.peak=nan", "optim.schedule.peak must be a number, not 'nan'"),
        ("optim.schedule.peak=1e999", "optim.schedule.peak must be a finite number"),
        ("=5", "--config.=5 names no setting: write --config.KEY=VALUE"),
        ("", "names no setting"),
        (".=5", "names no setting"),
        ("epochs=²", "--config.epochs must be a whole number, not '²'"),
        ("epochs=" + "-" * 10_000 + "1", "--config.epochs must be a whole number, not '---"),
        ("epochs=" + "[" * 100_000, "--config.epochs must be a whole number"),
        ("epochs=" + "9" * 5_000, "--config.epochs must be a whole number"),
        ("epochs=0x" + "f" * 5_000, "--config.epochs must be a whole number"),
        ("epochs=100000000000", "--config.epochs must be at most 1,000,000"),
        ("seed=100000000000000000000", "--config.seed must be at most 4,294,967,295"),
        ("data.split_seed=100000000000000000000", "data.split_seed"),
        ("batch_size=1000000000000", "--config.batch_size must be at most"),
        ("data.canvas.height=1000000", "--config.data.canvas.height must be at most"),
        ("epochs=1e2", "--config.epochs must be a whole number, not 100.0"),
        ("remat=yes", "--config.remat must be true or false, not 'yes'"),
        ("model.convs[²].channels=3", "model.convs has 3 entries, counted from 0; there is no ²"),
        ("model.convs[-1].channels=3", "there is no -1"),
        ("model.convs=[]", "--config.model.convs must have at least 1 entry, not 0"),
        ("model.convs=3", "--config.model.convs must be a list"),
        ("model.convs=[3]", "model.convs[0] must be settings of Conv, not 3"),
        ("data.image_size=[8]", "--config.data.image_size must have 2 entries, not 1"),
        ("data.image_size=[8, 8, 8]", "--config.data.image_size must have at most 2 entries, not 3"),
        ("data.image_size=8", "--config.data.image_size must be a list"),
        ("precision=BF16", '(did you mean "bf16"?)'),
        ("optim.optimizer=adam", '(did you mean "Adam"?)'),
        ("optim.clip=3", "--config.optim.clip must be settings of Clip, not 3"),
        ("data.source=Folder", "--config.data.source.path of Folder is missing: it has no default"),
        ("data=3", "--config.data must be settings of Data, not 3"),
        ("name=\udcff", "characters that are not valid text"),
        ("lr=0.1", "(did you mean --config.optim.schedule.peak?)"),
        ("dropout=0.1", "(did you mean --config.model.head.dropout"),
        ("model.nothing=1", "model has no setting 'nothing'; it has"),
        ("transfer.replace=['head.*']", "transfer.replace needs transfer.init_from"),
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
        (
            "from imgcls_jax import config as c\ndef get_config(v): return c.Head(dropuot=0.1)",
            'bad.py, line 2: dropuot is not a setting of Head (did you mean "dropout"?)',
        ),
        (
            "from imgcls_jax import config as c\ndef get_config(v): return c.Head(dropout=2)",
            "dropout must be less than 1",
        ),
        ("from imgcls_jax import config as c\ndef get_config(v): return c.Conv(3)", "kernel of Conv is missing"),
        ("from imgcls_jax import config as c\ndef get_config(v): return c.Sgd()", "has no attribute 'Sgd'"),
        ("import nothing_of_this_name\n", "bad.py, line 1: ModuleNotFoundError: No module named"),
        ("def get_config(v):\n    return 1 / 0", "bad.py, line 2: ZeroDivisionError: division by zero"),
        ("def get_config(v):\n    return {}[v]", "bad.py, line 2: KeyError: ''"),
        ("def get_config(v):\n    assert v", "bad.py, line 2: AssertionError"),
        ("raise SystemExit(3)", "bad.py, line 1: SystemExit: 3"),
        (
            "from imgcls_jax import config as c\ndef get_config(v): return c.Table('a.csv', root='data')",
            "bad.py, line 2: root is not a setting of Table; it has path,",
        ),
        (
            "from imgcls_jax import config as c\ndef get_config(v): return c.Arrays(takes_arrays=True)",
            "takes_arrays is not a setting of Arrays",
        ),
        ("x = 1\0", "bad.py: source code string cannot contain null bytes"),
        ("def get_config(v):\n    return get_config(v)", "bad.py, line 2: RecursionError"),
        ("def get_config(): ...", "get_config() takes 0 positional arguments but 1 was given"),
        ("get_config = 3", "TypeError: 'int' object is not callable"),
        ("x = '\\ud800'\nraise ValueError(x)", "bad.py, line 2: ValueError"),
        (
            "from imgcls_jax import config as c\ndef get_config(v):\n    return c.Clip()",
            "line 3: by of Clip is missing",
        ),
        ("from imgcls_jax import config as c\ndef get_config(v):\n    return c.Cosine(1, 2, 3)", "too many values"),
    ],
)
def test_bad_config_file(source, message, tmp_path):
    (tmp_path / "bad.py").write_text(source)
    with pytest.raises(UserError, match="bad.py") as error:
        files.load(str(tmp_path / "bad.py"))
    assert message in str(error.value)


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.py")
    (tmp_path / "circle.py").symlink_to("circle.py")
    for name in ("pipe.py", "circle.py"):
        with pytest.raises(UserError, match=rf"{name} is no regular file, or a link to nothing: --config wants"):
            files.load(str(tmp_path / name))


def test_missing_file_and_variant():
    with pytest.raises(UserError, match=r'there is no config file .*digit_cnn.py \(did you mean "digits_cnn.py"\?\)'):
        files.load(DIGITS.replace("digits", "digit"))
    with pytest.raises(UserError, match="the config has no variant 'big'; it has none"):
        files.load(f"{DIGITS}:big")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("batch_size"), "batch_size of Config is missing"),
        (
            lambda tree: tree.update(batchsize=tree.pop("batch_size")),
            'batchsize is not a setting of Config (did you mean "batch_size"?)',
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


def test_settings_from_python():
    config = files.load(
        Path(DIGITS),
        ["batch_size=32"],
        epochs=5,
        model=c.CNN(convs=(c.Conv(4, 3),), aggregate="average", head=c.Head()),
        augment=[c.HorizontalFlip()],
        **{"optim.schedule.peak": 0.5, "optim.optimizer": "Adam", "name": "7"},
    )
    assert (config.batch_size, config.epochs, config.name) == (32, 5, "7")
    assert config.model == c.CNN(convs=(c.Conv(4, 3),), aggregate="average", head=c.Head())
    assert config.augment == (c.HorizontalFlip(),)
    assert config.optim.schedule.peak == 0.5
    assert config.optim.optimizer == c.Adam()
    with pytest.raises(UserError, match=r"^epochs must be a whole number, not 'five'$"):
        files.load(DIGITS, epochs="five")
    with pytest.raises(UserError, match=r'^epochz: the config has no setting \'epochz\' \(did you mean "epochs"\?\)$'):
        files.load(DIGITS, epochz=5)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("a/b.py", ("a/b.py", "")),
        ("a/b.py:big", ("a/b.py", "big")),
        (r"C:\configs\b.py", (r"C:\configs\b.py", "")),
        (r"C:\configs\b.py:big", (r"C:\configs\b.py", "big")),
        ("nothing", ("nothing", "")),
    ],
)
def test_the_variant_is_what_follows_the_file(spec, parts):
    assert files.split_spec(spec) == parts


@pytest.mark.parametrize("spec", ["configs", "nowhere/x.py", "", ".", "x" * 5000, "README.md", "a\0b.py"])
def test_what_is_no_config_file(spec, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(UserError):
        files.load(spec)
