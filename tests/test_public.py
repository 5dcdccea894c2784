"""The public names, and what importing the package costs."""

import subprocess
import sys

import pytest

import imgcls_jax as ic
from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.training.callbacks import Callback
from imgcls_jax.training.loop import train


def test_importing_the_package_imports_nothing_else():
    program = (
        "import sys; before = set(sys.modules); import imgcls_jax; "
        "print(*sorted(name for name in set(sys.modules) - before if name.partition('.')[0] in "
        "{'jax', 'flax', 'numpy', 'pydantic', 'optax', 'orbax', 'clu', 'rich', 'matplotlib'}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_the_names_are_those_of_their_modules():
    assert ic.train is train
    assert ic.Callback is Callback
    assert ic.config is c
    assert ic.UserError is UserError
    assert ic.__version__
    assert dir(ic) == ic.__all__ == sorted(ic.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'imgcls_jax' has no attribute 'trian'"):
        _ = ic.trian


def test_load_config_changes_settings_by_text_and_by_value():
    config = ic.load_config("configs/digits_cnn.py", ["optim.schedule.peak=0.05"], epochs=5)
    assert (config.epochs, config.optim.schedule.peak) == (5, 0.05)
    with pytest.raises(UserError, match="epochs"):
        ic.load_config("configs/digits_cnn.py", epochs="five")
