"""The CIFAR ResNets and Wide ResNets against torch modules written from their papers' published code, in float64."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from model_reference import error, fill, fill_torch, images, our_run, torch_run

from imgcls_jax.config import CifarResNet, Head, WideResNet

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def conv3(n_in, n_out, stride=1):
    return torch.nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)


class CifarBlock(torch.nn.Module):
    """He et al. 2015; the shortcuts as in akamaster/pytorch_resnet_cifar10."""

    def __init__(self, n_in, n_out, stride, option):
        super().__init__()
        self.conv1, self.bn1 = conv3(n_in, n_out, stride), torch.nn.BatchNorm2d(n_out)
        self.conv2, self.bn2 = conv3(n_out, n_out), torch.nn.BatchNorm2d(n_out)
        self.shortcut = torch.nn.Sequential()
        self.zeros = 0
        if stride != 1 or n_in != n_out:
            if option == "A":
                self.zeros = n_out // 4
            else:
                conv1 = torch.nn.Conv2d(n_in, n_out, 1, stride, bias=False)
                self.shortcut = torch.nn.Sequential(conv1, torch.nn.BatchNorm2d(n_out))

    def forward(self, x):
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        if self.zeros:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.zeros, self.zeros))
        return functional.relu(y + self.shortcut(x))


class WideBlock(torch.nn.Module):
    """Zagoruyko & Komodakis 2016: pre-activation, shared with the shortcut where the shape changes."""

    def __init__(self, n_in, n_out, stride):
        super().__init__()
        self.bn1, self.conv1 = torch.nn.BatchNorm2d(n_in), conv3(n_in, n_out, stride)
        self.bn2, self.conv2 = torch.nn.BatchNorm2d(n_out), conv3(n_out, n_out)
        if stride != 1 or n_in != n_out:
            self.shortcut = torch.nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, x):
        y = functional.relu(self.bn1(x))
        if hasattr(self, "shortcut"):
            x = self.shortcut(y)
        return x + self.conv2(functional.relu(self.bn2(self.conv1(y))))


class Net(torch.nn.Module):
    def __init__(self, widths, block, preactivation):
        super().__init__()
        stem, *stages = widths
        self.conv1 = conv3(3, stem)
        for i, width in enumerate(stages):
            blocks = [block(stem, width, 2 if i else 1), block(width, width, 1)]
            setattr(self, f"layer{i + 1}", torch.nn.Sequential(*blocks))
            stem = width
        self.bn1 = torch.nn.BatchNorm2d(stem if preactivation else widths[0])
        self.linear = torch.nn.Linear(stem, 7)
        self.preactivation = preactivation

    def forward(self, x):
        x = self.conv1(x)
        if not self.preactivation:
            x = functional.relu(self.bn1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        if self.preactivation:
            x = functional.relu(self.bn1(x))
        return self.linear(x.mean((2, 3)))


# The widths of the CIFAR ResNets, and of a WRN-16-2; the CIFAR ResNet-20 gets its third blocks in the test.
CASES = {
    "option A": (
        CifarResNet(20, Head()),
        lambda: Net((16, 16, 32, 64), lambda *a: CifarBlock(*a, "A"), preactivation=False),
    ),
    "option B": (
        CifarResNet(20, Head(), shortcut="B"),
        lambda: Net((16, 16, 32, 64), lambda *a: CifarBlock(*a, "B"), preactivation=False),
    ),
    "wide": (WideResNet(16, 2, Head()), lambda: Net((16, 32, 64, 128), WideBlock, preactivation=True)),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["option A", pytest.param("option B", marks=pytest.mark.deep), pytest.param("wide", marks=pytest.mark.deep)]
)
def test_matches_torch(case):
    config, make_theirs = CASES[case]
    theirs = make_theirs().double()
    if isinstance(config, CifarResNet):
        for stage, width in ((theirs.layer1, 16), (theirs.layer2, 32), (theirs.layer3, 64)):
            stage.append(CifarBlock(width, width, 1, "A").double())
    fill_torch(theirs)
    x = images((3, 12, 8, 3)).astype("float64")
    for train in (False, True):
        expected = torch_run(theirs, x, train=train)
        with jax.enable_x64(True):
            model = config.build(num_classes=7, channels=3, image_size=(12, 8), dtype=jnp.float64, rngs=nnx.Rngs(0))
            # Both families' output layer is called `linear` here.
            actual = our_run(fill(model, "CifarResNet", jnp.float64), x, "CifarResNet", train=train)
        for stage, value in actual["stages"].items():
            reference = expected["stages"].get("linear" if stage == "head" else stage)
            if reference is not None:
                assert error(value, reference) < 1e-10, stage
        for kind in ("grads", "stats"):
            assert actual[kind].keys() == expected[kind].keys()
            for name, value in actual[kind].items():
                assert error(value, expected[kind][name]) < 1e-8, (kind, name)
        fill_torch(theirs)
