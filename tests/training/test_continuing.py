"""A run goes on elsewhere, and to more epochs where that gives what they would have given from the start."""

import dataclasses

import pytest
from test_loop import assert_same, final_params

from imgcls_jax import config as c
from imgcls_jax.cli.calibrate import main as calibrate
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import calibration
from imgcls_jax.record import continuing
from imgcls_jax.record.workdir import claimed
from imgcls_jax.training.loop import train


def data(config, **changes):
    return dataclasses.replace(config, data=dataclasses.replace(config.data, **changes))


def cosine(config):
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, schedule=c.Schedule(0.05, c.Cosine())))


PLACES = {
    "the images": lambda config: data(config, source=c.Arrays(path="elsewhere.npz")),
    "threads": lambda config: data(config, workers=3),
    "the cache": lambda config: data(config, cache_dir="elsewhere", cache_gib=1.0),
    "the feed": lambda config: data(config, feed="streamed"),
    "a logger": lambda config: dataclasses.replace(config, logging=c.Logging(predictions=False)),
    "evaluation's batch": lambda config: dataclasses.replace(config, eval_batch_size=5),
    "how often it is saved": lambda config: dataclasses.replace(config, save_every_steps=7, save_every_minutes=1.0),
    "the name": lambda config: dataclasses.replace(config, name="other"),
    "the devices": lambda config: dataclasses.replace(config, mesh=c.Mesh(devices=4)),
}


@pytest.mark.parametrize("change", PLACES.values(), ids=PLACES)
def test_a_place_is_no_part_of_a_run(change, tiny_config):
    begun = tiny_config()
    assert change(begun) != begun
    assert continuing.carried_over(begun, change(begun)) == change(begun)


def test_all_else_is(tiny_config):
    begun = tiny_config()
    for other in (tiny_config(seed=1), data(begun, cache_encoding="jpeg"), data(begun, source=c.Folder("photos"))):
        assert continuing.carried_over(begun, other) == begun != other


@pytest.mark.slow
def test_more_epochs_of_a_constant_rate_are_those_of_a_longer_run(tiny_config, tiny_arrays, tmp_path):
    for epochs in (2, 4):
        train(tiny_config(epochs=epochs), tmp_path / "in two parts", arrays=tiny_arrays)
    train(tiny_config(epochs=4), tmp_path / "at once", arrays=tiny_arrays)
    assert_same(final_params(tmp_path / "in two parts"), final_params(tmp_path / "at once"))


@pytest.mark.slow
def test_answers_are_of_the_model_that_gave_them(tiny_config, tiny_arrays, tmp_path):
    """They stay as long as the run does, and are gone once it goes on."""
    config = tiny_config(epochs=1, logging=c.Logging(tensorboard=False, predictions=True))
    train(config, tmp_path, arrays=tiny_arrays)
    calibrate(["--workdir", str(tmp_path)])
    fitted = calibration.load(tmp_path)
    train(config, tmp_path, arrays=tiny_arrays)
    assert calibration.load(tmp_path) == fitted
    silent = c.Logging(tensorboard=False, predictions=False)
    train(dataclasses.replace(config, epochs=2, logging=silent), tmp_path, arrays=tiny_arrays)
    assert not [*tmp_path.glob("predictions_*"), *tmp_path.glob("reliability*")]
    assert calibration.load(tmp_path) is None


@pytest.mark.slow
def test_other_pixels_under_the_same_labels_are_other_data(tiny_config, tiny_arrays, tmp_path):
    train(tiny_config(epochs=1), tmp_path, arrays=tiny_arrays)
    result = (tmp_path / "result.json").read_bytes()
    for name in ("x_train", "x_validation", "x_test"):
        one = tiny_arrays[name].copy()
        one[-1, 0, 0, 0] ^= 1
        with pytest.raises(UserError, match=r"^the data have changed since the run in .* began .split hash"):
            train(tiny_config(epochs=1), tmp_path, arrays={**tiny_arrays, name: one})
    assert (tmp_path / "result.json").read_bytes() == result
    train(tiny_config(epochs=1), tmp_path, arrays={name: array.copy() for name, array in tiny_arrays.items()})


def test_more_epochs_of_a_schedule_that_ends_with_them_are_refused(tiny_config, tmp_path):
    config = cosine(tiny_config(epochs=3))
    with claimed(tmp_path / "run", config, overwrite=False):
        (tmp_path / "run" / "checkpoints" / "4").mkdir(parents=True)
    longer = dataclasses.replace(config, epochs=5)
    with (
        pytest.raises(UserError, match=r"begun for 3 epochs, and Cosine shapes .* epoch 1 would .*init_from=.*/run "),
        claimed(tmp_path / "run", longer, overwrite=False),
    ):
        pass
