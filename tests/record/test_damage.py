"""A damaged checkpoint is told from a sound one, whichever of its bits is wrong, and the one before it takes over."""

import random
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.record.checkpoint import Checkpoints, DamagedCheckpoint

STATE = {
    "params": {"a": np.arange(300, dtype=np.float32), "b": np.ones((2, 3), np.float16)},
    "step": np.array(7, np.int32),
}
DOCUMENT = {"best": 4, "history": [{"loss": 0.25, "name": "größe"}]}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of two checkpoints, of steps 4 and 8, alike."""
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    checkpoints = Checkpoints(folder)
    for step in (4, 8):
        checkpoints.save(step, {**STATE, "x": jnp.full(3, 1.5)}, DOCUMENT)
    checkpoints.close()
    return folder


def flip_bit(path, chooser):
    content = bytearray(path.read_bytes())
    place = chooser.randrange(8 * len(content))
    content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    return place


def assert_sound(checkpoints, step):
    assert checkpoints.run(step) == DOCUMENT
    arrays = checkpoints.arrays(step)
    assert arrays["x"].tolist() == [1.5] * 3 and arrays["step"] == 7
    for name, array in STATE["params"].items():
        np.testing.assert_array_equal(arrays["params"][name], array)


def test_no_flipped_bit_is_read_as_data(saved, tmp_path):
    """Each file of a checkpoint in turn: either the bit does not matter, or it is damage; never other numbers."""
    chooser, found = random.Random(0), []
    names = sorted(path.relative_to(saved) for path in (saved / "8").rglob("*") if path.is_file())
    for number, name in enumerate(2 * names):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        place = flip_bit(folder / name, chooser)
        checkpoints = Checkpoints(folder, read_only=True)
        try:
            assert_sound(checkpoints, 8)
        except DamagedCheckpoint:
            found.append(f"{name.parts[1]}, bit {place}")
        assert_sound(checkpoints, 4)
        checkpoints.close()
    assert len([one for one in found if one.startswith("state")]) > 3 and any(one.startswith("run") for one in found)


DAMAGES = {
    "flipped": lambda folder: flip_bit(folder / "8" / "run" / "metadata", random.Random(1)),
    "cut": lambda folder: [path.write_bytes(path.read_bytes()[:40]) for path in (folder / "8/state/d").iterdir()],
    "half": lambda folder: shutil.rmtree(folder / "8" / "state"),
    "no document": lambda folder: shutil.rmtree(folder / "8" / "run"),
    "emptied": lambda folder: (shutil.rmtree(folder / "8"), (folder / "8").mkdir()),
    "stray": lambda folder: (folder / "99").mkdir(),
}


def read_all(checkpoints):
    def read(step):
        checkpoints.arrays(step)
        return step

    said = []
    return checkpoints.newest_sound(read, said.append), said


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_used(damage, saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    damage(folder)
    step = 99 if (folder / "99").exists() else 8

    reader = Checkpoints(folder, read_only=True)
    assert read_all(reader)[0] == (8 if step == 99 else 4)
    reader.close()
    assert (folder / str(step)).exists(), "who only reads changes nothing"

    checkpoints = Checkpoints(folder)
    found, (said,) = read_all(checkpoints)
    assert found == (8 if step == 99 else 4)
    assert f"it is set aside as damaged-{step}; the one before it is used" in said and "\n" not in said
    assert (folder / f"damaged-{step}").is_dir() and checkpoints.latest() == found
    checkpoints.save(8 + step, STATE, DOCUMENT)
    checkpoints.close()
    assert (folder / f"damaged-{step}").is_dir(), "it is kept"


def test_nothing_sound_is_one_sentence(saved, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(saved, folder)
    for step in (4, 8):
        shutil.rmtree(folder / str(step) / "state")
    checkpoints = Checkpoints(folder)
    with pytest.raises(UserError, match=r"no sound checkpoint is left in .*: each of 2 is damaged; restore the folder"):
        read_all(checkpoints)
    checkpoints.close()


def test_what_fits_another_model_is_no_damage(saved):
    checkpoints = Checkpoints(saved, read_only=True)
    like = {**STATE, "x": jnp.zeros(4), "step": jnp.int32(0), "params": {"a": jnp.zeros(2), "b": jnp.zeros(1)}}
    with pytest.raises(UserError, match="does not fit this model") as error:
        checkpoints.state(8, like)
    assert not isinstance(error.value, DamagedCheckpoint)
    checkpoints.close()
