import copy
import sys

import numpy as np
import pytest

from imgcls_jax import weights
from imgcls_jax.cli import parity as cli_parity
from imgcls_jax.doctor import parity
from imgcls_jax.errors import UserError


@pytest.fixture(scope="module")
def squeezenet():
    pytest.importorskip("torch")
    return parity.load("squeezenet1_1", None, 32)


def command(capsys, *arguments):
    """Exit status and output."""
    try:
        cli_parity.main(arguments)
        status = 0
    except SystemExit as exit:
        status = exit.code
    return status, capsys.readouterr().out


@pytest.mark.slow
def test_same_networks_agree_in_every_layer(squeezenet, capsys, monkeypatch):
    monkeypatch.setattr(parity, "load", lambda *_: squeezenet)
    status, out = command(capsys, "--model", "squeezenet1_1", "--image-size", "32")
    lines = out.splitlines()
    assert status == 0
    assert lines[-1].startswith("all 38 layers agree")
    # The order is that of the computation, and the inner layers of a stage come before the stage.
    assert [line.split()[0] for line in lines[1:7]] == [
        "features.0", "features.2", "features.3.squeeze", "features.3.expand1x1", "features.3.expand3x3", "features.3",
    ]  # fmt: skip
    assert lines[-2].split()[0] == "logits"
    assert lines[-3].split()[0] == "classifier.1"


@pytest.mark.parametrize(
    ("change", "layer"),
    [
        (lambda m: m.features[7].expand3x3.kernel, "features.7.expand3x3"),
        (lambda m: m.head.out.bias, "classifier.1"),
    ],
)
def test_the_first_layer_that_diverges_is_named(squeezenet, capsys, monkeypatch, change, layer):
    module, model = squeezenet
    parameter = change(model)
    before = parameter[...]
    parameter[...] = before + 1e-3
    monkeypatch.setattr(parity, "load", lambda *_: (module, model))
    status, out = command(capsys, "--model", "squeezenet1_1", "--image-size", "32")
    parameter[...] = before
    assert status == 1
    assert out.splitlines()[-1].startswith(f"{layer} is the first layer that diverges: relative error ")
    marked = [line.split()[0] for line in out.splitlines() if line.endswith("DIVERGES")]
    assert marked[0] == layer
    assert marked[-1] == "logits"


def test_not_a_number_diverges():
    row = parity._row("x", np.array([np.nan]), np.ones(1), np.ones(1))
    assert row.diverges
    assert parity._row("x", np.ones((1, 2)), np.ones((1, 3)), np.ones((1, 3))).diverges


@pytest.mark.slow
def test_a_checkpoint_with_other_classes(tmp_path, capsys):
    module, _ = parity.load("resnet18", None, 32)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    state["fc.weight"], state["fc.bias"] = state["fc.weight"][:5], state["fc.bias"][:5]
    weights.save_pth(state, tmp_path / "five.pth")
    status, out = command(
        capsys, "--model", "resnet18", "--checkpoint", str(tmp_path / "five.pth"), "--image-size", "32"
    )
    assert status == 0
    assert "2×5" in out.splitlines()[-2]


def test_logits_that_do_not_depend_on_the_image_show_nothing(squeezenet):
    module, model = squeezenet
    dead = copy.deepcopy(module)
    dead.classifier[1].bias.data.fill_(-1e6)  # so that the ReLU behind it is closed
    with pytest.raises(UserError, match="do not depend on the image"):
        parity.compare(dead, model, 32)


@pytest.mark.slow
@pytest.mark.deep
def test_a_network_of_another_package(capsys):
    """Its names begin with underscores; its padding depends on the image's size, here odd on the way."""
    pytest.importorskip("efficientnet_lite_pytorch")
    status, out = command(capsys, "--model", "efficientnet_lite0", "--image-size", "36")
    lines = out.splitlines()
    assert status == 0
    names = [line.split()[0] for line in lines[1:-1]]
    assert names[:3] == ["_conv_stem", "_bn0", "_blocks.0._depthwise_conv"]
    assert names[-5:] == ["_blocks.15", "_conv_head", "_bn1", "_fc", "logits"]
    # Two layers per convolution, each block, the output layer and the logits.
    assert len(names) == 2 * (1 + 2 + 15 * 3 + 1) + 16 + 2


def test_a_model_torchvision_lacks_is_refused():
    pytest.importorskip("torch")
    with pytest.raises(UserError, match=r"--model dinov2_vits14: .*only for efficientnet_lite0, .*wide_resnet50_2$"):
        parity.load("dinov2_vits14", None, 32)


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"pip install 'imgcls_jax\[parity\]'"):
        parity.load("resnet18", None, 32)
