"""Factors that a config file marks."""

import dataclasses
import re

import pytest

from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.training import validate
from imgcls_jax.tune.ablation import factors

HEAD = """
from imgcls_jax.config import io as files

def get_config(variant=""):
    return files.load("configs/digits_cnn.py")
"""


def marked(tmp_path, text):
    """The factors of a config file that ends in `text`."""
    path = tmp_path / "some_config.py"
    path.write_text(HEAD + text)
    files.load(str(path))
    return factors.of(f"{path}:variant")


@pytest.fixture(autouse=True)
def _repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


def test_they_are_read_from_the_file(tmp_path):
    found = marked(tmp_path, "FACTORS = {'a': lambda config: config, 'b-2': lambda config: None}")
    assert list(found) == ["a", "b-2"]
    assert found["b-2"](0) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "some_config.py marks no factors: define FACTORS = {"),
        ("FACTORS = ('bn',)", "must be a dict of names and functions, not ('bn',)"),
        ("FACTORS = {'bn': 1}", "must be a dict of names and functions, not {'bn': 1}"),
        ("FACTORS = {'a/b': print}", "'a/b' in FACTORS of"),
        ("FACTORS = {'baseline': print}", "'baseline' in FACTORS of"),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    with pytest.raises(UserError, match=re.escape(message)):
        marked(tmp_path, text)


def test_designs():
    names = dict.fromkeys("abc", lambda config: config)
    assert [factors.name(cell) for cell in factors.cells(names, "factorial")] == [
        "baseline", "a", "b", "c", "a+b", "a+c", "b+c", "a+b+c",
    ]  # fmt: skip
    assert factors.cells(names, "one_at_a_time") == [(), ("a",), ("b",), ("c",), ("a", "b", "c")]
    assert factors.cells({"a": names["a"]}, "one_at_a_time") == [(), ("a",)]


def test_factors_add_up(tiny_config):
    made = {
        "longer": lambda config: dataclasses.replace(config, epochs=config.epochs + 3, name="own name"),
        "double": lambda config: dataclasses.replace(config, epochs=2 * config.epochs),
    }
    assert factors.apply(tiny_config(), made, ("longer", "double")) == tiny_config(name="tiny_longer_double", epochs=10)
    assert factors.apply(tiny_config(), made, ()) == tiny_config()


def test_mistakes_in_a_factor(tiny_config):
    made = {
        "nothing": lambda config: dataclasses.replace(config, name="another"),
        "none": lambda config: None,
        "typo": lambda config: config.modell,
        "wrong": lambda config: dataclasses.replace(config, epochs=0),
    }
    for name, message in {
        "nothing": "the factor 'nothing' changes nothing in tiny: it must be off in the baseline",
        "none": "the factor 'none' must return a Config, not NoneType",
        "typo": "the factor 'typo' cannot be applied to tiny: 'Config' object has no attribute 'modell'",
        "wrong": "the factor 'wrong' cannot be applied to tiny: epochs must be greater than 0, not 0",
    }.items():
        with pytest.raises(UserError, match=re.escape(message)):
            factors.apply(tiny_config(), made, (name,))


def test_the_factors_of_shipped_configs_can_be_combined(request):
    marking = [path for path in (request.config.rootpath / "configs").glob("*.py") if "\nFACTORS" in path.read_text()]
    if not marking:
        pytest.skip("no config under configs/ marks factors")
    for path in marking:
        config = files.load(str(path))
        found = factors.of(str(path))
        for cell in factors.cells(found, "factorial"):
            validate.validate(factors.apply(config, found, cell), devices=1)
