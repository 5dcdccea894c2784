"""Whether data and weights are here."""

import numpy as np
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.reproduce import at_hand


def test_folder(tmp_path):
    assert "does not exist" in at_hand.data_problem(c.Folder(str(tmp_path / "pets")))
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
    assert "holds images" in at_hand.data_problem(c.Folder(str(tmp_path / "pets")))
    for name in ("cat", "dog"):
        Image.new("RGB", (4, 4)).save(tmp_path / "pets" / name / "1.png")
    assert at_hand.data_problem(c.Folder(str(tmp_path / "pets"))) is None


def test_arrays(tmp_path):
    file = tmp_path / "x.npz"
    assert at_hand.data_problem(c.Arrays(str(file))) == f"there is no file {file}"
    np.savez(file)
    assert at_hand.data_problem(c.Arrays(str(file))) is None
    assert "given from Python" in at_hand.data_problem(c.Arrays())


def test_catalogue_set(tmp_path):
    source = c.TFDS("cifar10", train="train", validation=None, test="test", data_dir=str(tmp_path))
    assert 'the tfds set "cifar10" is not prepared in' in at_hand.data_problem(source)
    digits = c.TFDS("imgcls_digits", train="train", validation=None, test="test", data_dir=str(tmp_path))
    assert at_hand.data_problem(digits) is None


def test_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path))
    published = c.Transfer(init_from="torchvision/resnet18.IMAGENET1K_V1")
    file = tmp_path / "resnet18-f37072fd.pth"
    assert at_hand.weights_problem(published) == (
        "torchvision/resnet18.IMAGENET1K_V1 would be downloaded from "
        f"https://download.pytorch.org/models/resnet18-f37072fd.pth to {file}"
    )
    own = c.Transfer(init_from=str(file))
    assert at_hand.weights_problem(own) == f"there is no weight file or run {file} (transfer.init_from)"
    file.touch()
    assert at_hand.weights_problem(published) is None
    assert at_hand.weights_problem(own) is None
    assert at_hand.weights_problem(c.Transfer()) is None
