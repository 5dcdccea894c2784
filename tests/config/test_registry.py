"""Components of a user's own: registered by being defined, strict, saved by import path, restored."""

import ast
import inspect
import json
import sys

import pytest

from imgcls_jax import config as c
from imgcls_jax.config import io, registry
from imgcls_jax.config.describe import describe
from imgcls_jax.errors import UserError

CONFIG = '''
from imgcls_jax import config as c
from my_parts import Tiny


class Halving(c.Shape):
    """Half the rate every few epochs."""

    every: int = 2
    """Epochs."""


def get_config(variant=""):
    return c.Config(
        name="own",
        data=c.Data(source=c.Arrays(), canvas=c.Canvas(8, 8), image_size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3),
        augment=(),
        model=Tiny(width=4),
        loss=c.CrossEntropy(),
        optim=c.Optim(optimizer=c.SGD(), schedule=c.Schedule(peak=0.1, shape=Halving(every=3))),
        batch_size=8, epochs=2, precision="fp32", seed=0,
    )
'''
PARTS = '''
from imgcls_jax import config as c


class Tiny(c.Model):
    """A tiny network."""

    width: int = 8
    """Channels of its only layer."""
'''


@pytest.fixture
def own(tmp_path):
    """A config file that defines one component and imports another from beside it; nothing of it stays behind."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "own.py").write_text(CONFIG)
    (folder / "my_parts.py").write_text(PARTS)
    path, modules = list(sys.path), set(sys.modules)
    yield folder / "own.py"
    forget(path, modules)


def forget(path, modules):
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name == "my_parts" or name.startswith("imgcls_config_"):
            del sys.modules[name]
    for root in registry.ROOTS:
        for kind in [kind for kind in root.registered if kind.partition(":")[0] in ("my_parts", "imgcls_config_own")]:
            del root.registered[kind]


def test_saved_by_import_path_and_restored(own, tmp_path):
    config = io.load(str(own))
    document = io.document(config)
    assert document["config"]["model"] == {"kind": "my_parts:Tiny", "width": 4}
    assert document["config"]["optim"]["schedule"]["shape"] == {"kind": "imgcls_config_own:Halving", "every": 3}
    assert document["modules"] == {
        "imgcls_config_own": str(own),
        "my_parts": str(own.with_name("my_parts.py")),
    }
    (tmp_path / "config.json").write_text(json.dumps(document))
    assert io.restore(tmp_path / "config.json") == config


def test_restored_in_a_process_that_never_saw_it(own, tmp_path):
    path, modules = list(sys.path), set(sys.modules)
    document = io.document(io.load(str(own)))
    (tmp_path / "config.json").write_text(json.dumps(document))
    forget(path, modules)
    assert io.document(io.restore(tmp_path / "config.json")) == document


def test_a_missing_module_is_one_sentence(own, tmp_path):
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "config.json").write_text(json.dumps(io.document(io.load(str(own)))))
    forget(path, modules)
    own.with_name("my_parts.py").unlink()
    with pytest.raises(UserError) as error:
        io.restore(tmp_path / "config.json")
    message = str(error.value)
    assert "model needs Tiny of the module my_parts, which cannot be imported" in message
    assert "put the folder that holds it on PYTHONPATH" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widht=3", "model has no setting 'widht' (did you mean \"width\"?)"),
        ("model.width=wide", "model.width must be a whole number, not 'wide'"),
        ("model=Tinny", '(did you mean "Tiny"?)'),
    ],
)
def test_strict(own, override, message):
    with pytest.raises(UserError) as error:
        io.load(str(own), [override])
    assert message in str(error.value)


def test_named_on_the_command_line(own):
    config = io.load(str(own), ["optim.optimizer=Adam", "optim.schedule.shape=Halving"])
    assert config.optim.optimizer == c.Adam()
    assert config.optim.schedule.shape.every == 2


def test_listed_in_the_help(own):
    text = describe(io.load(own))
    assert "model.width = 4   (int)\n    Channels of its only layer." in text
    assert "Tiny" in describe(io.load(own, ["model=Airbench"]))


def test_every_component_of_this_package_is_an_attribute_of_config():
    for root in registry.ROOTS:
        for kind, cls in root.kinds().items():
            if ":" not in kind:
                assert getattr(c, kind) is cls
                assert kind in dir(c)


def test_what_editors_complete_is_there():
    """The names below TYPE_CHECKING are those of the modules that they are imported from there."""
    block = next(node for node in ast.parse(inspect.getsource(c)).body if isinstance(node, ast.If))
    names = {alias.name: node.module for node in block.body for alias in node.names}
    assert {name: getattr(c, name).__module__ for name in names} == names
