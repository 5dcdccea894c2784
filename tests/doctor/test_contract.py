"""The contract check finds each fault that a network of one's own may have."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax import config as c
from imgcls_jax.cli import check as command
from imgcls_jax.doctor import contract
from imgcls_jax.errors import UserError
from imgcls_jax.models.layers import BatchNorm
from imgcls_jax.weights import torch_names as t


class Net(nnx.Module):
    """A sound little network; subclasses break one thing each."""

    def __init__(self, num_classes, channels, dtype, rngs):
        self.conv = nnx.Conv(channels, 4, (3, 3), dtype=dtype, rngs=rngs)
        self.norm = BatchNorm(4)
        self.dropout = nnx.Dropout(0.1)
        self.head = nnx.Linear(4, num_classes, dtype=jnp.float32, rngs=rngs)

    def __call__(self, x, *, rngs=None):
        return self.stages(x, rngs=rngs)["head"]

    def features(self, x, rngs):
        return self.dropout(jax.nn.relu(self.norm(self.conv(x))), rngs=rngs)

    def stages(self, x, *, rngs=None):
        x = self.features(x, rngs)
        return {"features": x, "head": self.head(x.mean((1, 2)))}


@pytest.fixture(autouse=True)
def forget():
    """No network of these tests stays registered."""
    before = dict(c.Model.kinds())
    yield
    c.Model.registered.clear()
    c.Model.registered.update(before)


def problems(module=Net, size=(6, 8), **members):
    """What the check finds about settings that build `module`."""

    def build(self, *, num_classes, channels, image_size, dtype, rngs):
        return module(num_classes, channels, dtype, rngs)

    model = type(c.Model)("Own", (c.Model,), {"__module__": __name__, "build": build} | members)()
    return {
        finding.check: finding.problem
        for finding in contract.check(model, image_size=size, channels=1)
        if finding.problem
    }


def only(found, message):
    assert len(found) == 1, found
    (problem,) = found.values()
    assert message in problem


def test_a_sound_network_has_no_problem():
    assert problems() == {}


def test_the_example_of_the_docstring():
    result = doctest.testmod(contract)
    assert (result.failed, result.attempted) == (0, 4)


def test_build_fails():
    only(problems(lambda *_: 1 / 0), "ZeroDivisionError: division by zero")
    only(problems(lambda *_: "net"), "returns a str, not an nnx.Module")
    assert "has no method build" in next(iter(problems(build=c.Model.build).values()))


def test_state_that_would_be_lost():
    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)

    only(problems(Broken), "also holds dropout.rngs")


def test_logits_of_another_shape():
    class Broken(Net):
        def stages(self, x, *, rngs=None):
            maps = super().stages(x, rngs=rngs)
            return maps | {"head": maps["head"][:, :2]}

    only(problems(Broken), "logits of 4 images and 5 classes have the shape (4, 2)")


def test_logits_in_bfloat16():
    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, rngs)
            self.head = nnx.Linear(4, num_classes, dtype=dtype, rngs=rngs)

    only(problems(Broken), "with dtype=bfloat16 logits are bfloat16")


def test_parameters_in_bfloat16():
    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, rngs)
            self.conv = nnx.Conv(channels, 4, (3, 3), param_dtype=dtype, rngs=rngs)

    only(problems(Broken), "with dtype=bfloat16, conv.")


def test_statistics_of_the_batch_in_evaluation():
    class Broken(Net):
        def features(self, x, rngs):
            x = self.conv(x)
            x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
            return jax.nn.relu(x * self.norm.scale[...] + self.norm.bias[...])

    found = problems(Broken)
    assert any("depend on the other images of its batch" in problem for problem in found.values())
    assert any("does not move norm.mean, norm.var" in problem for problem in found.values())


def test_flaxs_batch_norm_has_no_switch_of_its_own_for_its_statistics():
    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, rngs)
            self.norm = nnx.BatchNorm(4, dtype=dtype, rngs=rngs)

    only(problems(Broken), "imgcls_jax.models.layers.BatchNorm")


def test_evaluation_that_changes_statistics():
    class Broken(Net):
        def features(self, x, rngs):
            self.norm.mean[...] = 0.9 * self.norm.mean[...] + 0.1 * x.mean()
            return super().features(x, rngs)

    assert any("evaluation changes norm.mean" in problem for problem in problems(Broken).values())


def test_a_parameter_without_a_gradient():
    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, rngs)
            self.unused = nnx.Param(jnp.ones(3))

    only(problems(Broken), "no gradient reaches unused")


def test_an_infinite_gradient():
    class Broken(Net):
        def features(self, x, rngs):
            x = super().features(x, rngs)
            return x + jnp.sqrt(0 * self.norm.bias[...])

    only(problems(Broken), "is not finite")


def test_logits_that_ignore_the_image():
    class Broken(Net):
        def features(self, x, rngs):
            return super().features(0 * x + 1, rngs)

    assert any("the same for every image" in problem for problem in problems(Broken).values())


def test_draws_that_are_not_from_the_key():
    random = np.random.default_rng(0)

    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, rngs)
            self.norm.bias[...] = jnp.asarray(random.standard_normal(4), jnp.float32)

    only(problems(Broken), "the same key gives other values of norm.bias")


def test_the_same_parameters_from_every_key():
    class Broken(Net):
        def __init__(self, num_classes, channels, dtype, rngs):
            super().__init__(num_classes, channels, dtype, nnx.Rngs(3))

    only(problems(Broken), "another key gives the same parameters")


def test_the_last_stage_is_not_the_logits():
    class Broken(Net):
        def stages(self, x, *, rngs=None):
            maps = super().stages(x, rngs=rngs)
            return {"head": maps["head"], "features": maps["features"]}

    only(problems(Broken), "features")


def test_a_head_by_another_name():
    only(problems(head_prefix="classifier."), "begins with 'classifier.'")


def test_torchs_names():
    conv, norm, head = ("c1", "conv", t.CONV), ("b1", "norm", t.BATCH_NORM), ("fc", "head", t.LINEAR)
    assert problems(torch_rules=lambda self: t.rules(conv, norm, head)) == {}
    only(problems(torch_rules=lambda self: t.rules(conv, head)), "no name for norm.")
    only(problems(torch_rules=lambda self: t.rules(conv, ("fc", "norm", t.BATCH_NORM), head)), "one name")


OWN = '''
from imgcls_jax import config as c

class Tiny(c.Model):
    """A tiny network."""

    width: int = 4
    """Channels."""

    def build(self, *, num_classes, channels, image_size, dtype, rngs):
        conv = c.CNN(convs=(c.Conv(self.width, 3),), aggregate="average", head=c.Head())
        return conv.build(num_classes=num_classes, channels=channels, image_size=image_size, dtype=dtype, rngs=rngs)

class Bare(c.Model):
    """It has no default."""

    width: int
    """Channels."""

WIDE = Tiny(width=8)
'''


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    file = tmp_path / "net.py"
    file.write_text(OWN)
    for name in ("Tiny", "WIDE"):
        command.main([f"{file}:{name}", "--size", "6", "--channels", "1"])
        *lines, last = capsys.readouterr().out.splitlines()
        assert all(line.startswith("ok ") for line in lines)
        assert last == f"{file}:{name}: all {len(lines)} checks passed"
    file.write_text(OWN.replace("self.width, 3", "self.width, 33"))
    with pytest.raises(SystemExit) as end:
        command.main([f"{file}:Tiny"])
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "FAILED  builds a module" in out
    assert "1 of 1 checks failed" in out


def test_the_commands_mistakes(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(OWN)
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    cases = {
        f"{file}": "is not FILE.py:NAME",
        f"{tmp_path}/gone.py:Tiny": "there is no file",
        f"{file}:Tinny": r'has no network Tinny \(did you mean "Tiny"\?\); it has Tiny, Bare, WIDE',
        f"{file}:Bare": r"Bare needs settings without a default \(width\): assign an instance",
        f"{tmp_path}/bad.py:Tiny": "bad.py, line 1: ModuleNotFoundError",
    }
    for spec, message in cases.items():
        with pytest.raises(UserError, match=message):
            command.main([spec])
    with pytest.raises(UserError, match="--size: must be a whole number of at least 1"):
        command.main([f"{file}:Tiny", "--size", "0"])
