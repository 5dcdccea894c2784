"""Whether weights are here."""

from imgcls_jax import config as c
from reproduction import at_hand


def test_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("IMGCLS_CACHE", str(tmp_path))
    published = c.Transfer(init_from="torchvision/resnet18.IMAGENET1K_V1")
    file = tmp_path / "weights" / "resnet18-f37072fd.pth"
    assert at_hand.weights_problem(published) == (
        "torchvision/resnet18.IMAGENET1K_V1 would be downloaded from "
        f"https://download.pytorch.org/models/resnet18-f37072fd.pth to {file}"
    )
    own = c.Transfer(init_from=str(file))
    assert at_hand.weights_problem(own) == f"there is no weight file or run {file} (transfer.init_from)"
    file.parent.mkdir()
    file.touch()
    assert at_hand.weights_problem(published) is None
    assert at_hand.weights_problem(own) is None
    assert at_hand.weights_problem(c.Transfer()) is None
