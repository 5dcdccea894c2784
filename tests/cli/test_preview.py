"""The contact sheets."""

import numpy as np
from PIL import Image

from imgcls_jax import config as c
from imgcls_jax.doctor.preview import preview


def test_one_sheet_a_phase(tiny_config, tiny_arrays, tmp_path):
    np.savez(tmp_path / "images.npz", **tiny_arrays)
    settings = tiny_config().data
    data = c.Data(
        source=c.Arrays(str(tmp_path / "images.npz")),
        canvas=settings.canvas,
        image_size=settings.image_size,
        mean=settings.mean,
        std=settings.std,
    )
    config = tiny_config(data=data, augment=(c.HorizontalFlip(), c.Rotation(90, from_epoch=1)))
    paths = preview(config, tmp_path / "out", images=3, draws=2)
    assert [path.name for path in paths] == ["preview_epoch_0.png", "preview_epoch_1.png"]
    sheets = [np.asarray(Image.open(path)) for path in paths]
    assert sheets[0].shape == sheets[1].shape
    assert not np.array_equal(sheets[0], sheets[1])
