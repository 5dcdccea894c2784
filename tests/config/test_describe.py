"""The help of a config."""

import re
from pathlib import Path

import pytest

from imgcls_jax.config import io, registry
from imgcls_jax.config.describe import _every_class, _fields, describe
from imgcls_jax.config.experiment import Config
from imgcls_jax.errors import UserError

DESCRIBED = [f"imgcls_jax.config.{name}" for name in ("experiment", "transfer", "data", "optim")]
DESCRIBED += [
    f"imgcls_jax.optim.{name}" for name in ("losses", "schedules", "plateau", "sgd", "adam", "lion", "rmsprop")
]
DESCRIBED += [f"imgcls_jax.{name}" for name in ("optim.muon", "optim.schedule_free", "evaluation.metrics")]
DIGITS = Path(__file__).parents[2] / "configs" / "digits_cnn.py"


@pytest.fixture(scope="module")
def digits():
    return io.load(DIGITS)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_fits(digits, width):
    lines = describe(digits, width=width).splitlines()
    assert max(map(len, lines)) <= width


def test_every_setting_of_every_class_with_its_meaning(digits):
    text = re.sub(r"\s+", " ", describe(digits))
    for cls in _every_class(Config):
        for name, _, doc in _fields(cls):
            assert name in text
            assert doc in text


def test_every_setting_has_a_meaning():
    ours = [cls for cls in _every_class(Config) if cls.__module__.startswith("imgcls_jax.")]
    missing = [f"{cls.__name__}.{name}" for cls in ours for name, _, doc in _fields(cls) if not doc]
    assert missing == []


def test_a_part(digits):
    text = describe(digits, "optim.schedule")
    assert text.startswith("optim.schedule = Schedule\n")
    assert "optim.schedule.peak = 0.003   (0 < float)" in text
    assert "Shape: any of Constant, Step, MultiStep," in text
    assert "batch_size" not in text.replace("eval_batch_size", "")
    assert describe(digits, "model.convs[0]") == describe(digits, "model.convs.0").replace("convs.0", "convs[0]")


def test_one_setting_and_one_kind(digits):
    assert describe(digits, "epochs").splitlines()[0] == "epochs = 30   (0 < int ≤ 1,000,000)"
    assert describe(digits, "AdamW").startswith("AdamW: ")
    assert "weight_decay   (0 ≤ float, default 0.01)" in describe(digits, "AdamW")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("optimm", "there is no setting or kind 'optimm' (did you mean \"optim\"?)"),
        ("adamw", '(did you mean "AdamW"?)'),
        ("model.convs[9]", "no setting or kind '9'"),
        ("epochs.x", "no setting or kind 'x'"),
    ],
)
def test_no_such_part(digits, part, message):
    with pytest.raises(UserError) as error:
        describe(digits, part)
    assert message in str(error.value)


def test_limits_are_part_of_a_type():
    hints = {name: registry.type_name(hint) for name, hint, _ in _fields(Config)}
    assert hints["batch_size"] == "0 < int ≤ 1,000,000"
    assert hints["early_stopping"] == "EarlyStopping | None"
    assert hints["precision"] == "'fp32' | 'bf16' | 'fp16'"
