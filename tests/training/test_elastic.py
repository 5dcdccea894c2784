"""A run goes on, and is used, on other devices than it began on."""

import dataclasses

import pytest
from test_loop import assert_same, final_params

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.record.json_files import write_json
from imgcls_jax.training.callbacks.console import Console


@pytest.fixture
def wide(tiny_config):
    """A config with arrays that are large enough to be split among devices."""
    model = c.CNN(convs=(c.Conv(256, 3, padding=1, norm="batch", pool=2),), aggregate="flatten", head=c.Head())
    return tiny_config(model=model, optim=c.Optim(c.SGD(momentum=0.9), c.Schedule(0.01, c.Constant())))


def train(config, workdir, arrays, *callbacks):
    return ic.train(config, workdir, arrays=arrays, callbacks=callbacks, console=Console(silent=True))


class InterruptAtFive(ic.Callback):
    def on_step(self, run):
        if run.step == 5:
            run.interrupt()


FOUR = c.Mesh(devices=4, fsdp=4)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(c.Mesh(devices=1), FOUR), (FOUR, c.Mesh(devices=1))])
def test_a_run_goes_on_on_other_devices(before, after, wide, tiny_arrays, tmp_path):
    """Up to rounding it comes to what one device comes to; split among them or whole."""
    train(wide, tmp_path / "one", tiny_arrays)
    with pytest.raises(KeyboardInterrupt):
        train(dataclasses.replace(wide, mesh=before), tmp_path / "run", tiny_arrays, InterruptAtFive())
    train(dataclasses.replace(wide, mesh=after), tmp_path / "run", tiny_arrays)
    assert files.restore(tmp_path / "run" / "config.json").mesh == after
    assert_same(final_params(tmp_path / "one"), final_params(tmp_path / "run"), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_run_of_more_devices_than_there_are_is_used(wide, tiny_arrays, tmp_path):
    """By prediction, evaluation and another run that begins with its weights."""
    trained = train(dataclasses.replace(wide, mesh=FOUR, epochs=1), tmp_path / "run", tiny_arrays)
    elsewhere = dataclasses.replace(wide, mesh=c.Mesh(devices=64, fsdp=64), epochs=1)
    write_json(tmp_path / "run" / "config.json", files.document(elsewhere))
    classifier = ic.Classifier.load(tmp_path / "run")
    right = classifier.labels(tiny_arrays["x_test"]) == tiny_arrays["y_test"]
    assert right.mean() == pytest.approx(trained["test"]["top1"])
    fine = dataclasses.replace(wide, transfer=c.Transfer(init_from=str(tmp_path / "run")), epochs=1)
    train(fine, tmp_path / "fine", tiny_arrays)
