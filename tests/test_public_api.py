"""The examples in the docstrings of all public functions do what they show."""

import dataclasses
import doctest
import functools
import importlib
import inspect
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.training.callbacks.console import Console
from imgcls_jax.training.loop import train

# Modules that a user imports names from.
MODULES = ("imgcls_jax", "imgcls_jax.inference")


def examples():
    """(Name, object) of everything public that has a docstring with an example, its methods included."""
    found = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            thing = getattr(module, name)
            parts = vars(thing).items() if inspect.isclass(thing) else ()
            for label, part in [(name, thing), *((f"{name}.{key}", part) for key, part in parts if key[0] != "_")]:
                part = getattr(part, "__func__", part)
                if ">>>" in (getattr(part, "__doc__", None) or ""):
                    found[label] = part
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_config, tiny_arrays):
    """The folder in which the examples run: a finished run, an image of each of two classes, and a text file."""
    folder = tmp_path_factory.mktemp("examples")
    np.savez(folder / "images.npz", **tiny_arrays, label_names=np.array(["red", "green", "blue"]))
    config = tiny_config(
        name="colors",
        data=dataclasses.replace(tiny_config().data, source=c.Arrays(str(folder / "images.npz"))),
        augment=(),
        model=c.CNN(convs=(c.Conv(4, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head()),
        epochs=8,
        logging=c.Logging(tensorboard=False),
    )
    assert train(config, folder / "run")["test"]["top1"] > 0.9
    levels = {name: x.mean((1, 2))[:, :1] / 255 for name, x in tiny_arrays.items() if name.startswith("x")}
    levels = {name.replace("x", "y"): values.astype(np.float32) for name, values in levels.items()}
    images = {name: x for name, x in tiny_arrays.items() if name.startswith("x")}
    np.savez(folder / "numbers.npz", **images, **levels, label_names=np.array(["red"]))
    data = dataclasses.replace(config.data, source=c.Arrays(str(folder / "numbers.npz")))
    model = dataclasses.replace(config.model, aggregate="average")
    train(
        dataclasses.replace(config, data=data, model=model, loss=c.MSE(), best=c.Best("loss"), epochs=20),
        folder / "numbers",
    )
    for name, channel in (("reddish", 0), ("bluish", 2)):
        pixels = np.full((8, 8, 3), 100, np.uint8)
        pixels[..., channel] += 55
        Image.fromarray(pixels).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "configs").symlink_to(Path(__file__).parents[1] / "configs")
    return folder


SLOW = ("train",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(examples())]
)
def test_example(name, folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("imgcls_jax.training.loop.Console", functools.partial(Console, silent=True))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    names = {"run": str(folder / "run"), "numbers": str(folder / "numbers")}
    source = examples()[name]
    tests = doctest.DocTestFinder(recurse=False).find(source, name, globs=names)
    runner = doctest.DocTestRunner(optionflags=flags)
    for test in tests:
        runner.run(test)
    assert runner.summarize(verbose=False).attempted > 0
    assert runner.summarize(verbose=False).failed == 0


def test_every_public_function_has_an_example():
    import imgcls_jax

    functions = [name for name in imgcls_jax.__all__ if inspect.isfunction(getattr(imgcls_jax, name))]
    functions += [f"Classifier.{name}" for name, part in vars(imgcls_jax.Classifier).items() if _is_public(name, part)]
    assert set(functions) <= set(examples())


def _is_public(name, part):
    return name[0] != "_" and (inspect.isfunction(part) or isinstance(part, classmethod))
