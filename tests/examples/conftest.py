"""The examples run on one device, as on the computer of a reader, not on the eight that the tests see."""

import pytest

from imgcls_jax.parallel import mesh


@pytest.fixture(autouse=True)
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    arrange = mesh.arrange
    monkeypatch.setattr(mesh, "arrange", lambda devices, config: arrange(devices[:1], config))
