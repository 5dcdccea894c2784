"""Key tables: heads, flattened maps, families without a torchvision model, and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from weights_reference import our_model, random_state

from imgcls_jax import weights
from imgcls_jax.config import CNN, CifarResNet, Conv, Dense, Head, ResNet, WideResNet
from imgcls_jax.errors import UserError
from imgcls_jax.models import architectures
from imgcls_jax.weights import paths


def zeros(tree):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)


def state_of(config, **kwargs):
    """A random state dict for a config, and the abstract parameters and statistics."""
    _, params, stats = our_model(config, **kwargs)
    exported = weights.to_state_dict(zeros(params), zeros(stats), config)
    return random_state({name: array.shape for name, array in exported.items()}), params, stats


def logits(config, state, x, **kwargs):
    """Of our model with a torch state dict, in evaluation mode."""
    graphdef, params, stats = our_model(config, **kwargs)
    params, stats = weights.to_params(state, config, params, stats)
    evaluation = dict(use_running_average=True, update_running=False)
    model = nnx.view(nnx.merge(graphdef, params, stats), raise_if_not_found=False, **evaluation)
    return np.asarray(jax.jit(model)(jnp.asarray(x)))


def torch_logits(module, state, x):
    torch = pytest.importorskip("torch")
    module.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in state.items()}, strict=True)
    with torch.no_grad():
        return module.eval()(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# --- CNN: the channel order after a flatten -------------------------------------------------------------------------

CNNS = {
    "linear": CNN((Conv(4, 3), Conv(6, 3, pool=2)), "flatten", Head()),
    "hidden": CNN((Conv(4, 3, norm="batch"), Conv(6, 3, pool=2)), "flatten", Head(hidden=(Dense(5), Dense(3)))),
    "norms": CNN((Conv(6, 3),), "flatten", Head(batch_norm=True, hidden=(Dense(5, norm="batch"),))),
    "norm": CNN((Conv(6, 3),), "flatten", Head(batch_norm=True)),
    "average": CNN((Conv(6, 3),), "average", Head(hidden=(Dense(5),))),
}


def torch_cnn(config, features):
    """The network that `config` describes, in torch, under the names that we export; three classes."""
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, inputs, conv):
            super().__init__()
            self.conv = nn.Conv2d(inputs, conv.channels, conv.kernel)
            if conv.norm == "batch":
                self.bn = nn.BatchNorm2d(conv.channels)
            self.pool = nn.MaxPool2d(conv.pool)

        def forward(self, x):
            x = self.conv(x)
            return self.pool(torch.relu(self.bn(x) if hasattr(self, "bn") else x))

    class Hidden(nn.Module):
        def __init__(self, inputs, dense):
            super().__init__()
            self.linear = nn.Linear(inputs, dense.features)
            if dense.norm == "batch":
                self.norm = nn.BatchNorm1d(dense.features)

        def forward(self, x):
            x = self.linear(x)
            return torch.relu(self.norm(x) if hasattr(self, "norm") else x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            channels = [3, *(conv.channels for conv in config.convs)]
            self.convs = nn.Sequential(*map(Block, channels, config.convs))
            head = nn.Module()
            if config.head.batch_norm:
                head.norm = nn.BatchNorm1d(features)
            sizes = [features, *(dense.features for dense in config.head.hidden)]
            head.hidden = nn.Sequential(*map(Hidden, sizes, config.head.hidden))
            head.out = nn.Linear(sizes[-1], 3)
            self.head = nn.Linear(features, 3) if config.head == Head() else head

        def forward(self, x):
            x = self.convs(x)
            x = x.flatten(1) if config.aggregate == "flatten" else x.mean((2, 3))
            if config.head == Head():
                return self.head(x)
            if config.head.batch_norm:
                x = self.head.norm(x)
            return self.head.out(self.head.hidden(x))

    return Net()


@pytest.mark.parametrize("name", CNNS)
def test_cnn_equals_torch(name):
    config, size = CNNS[name], (8, 10)
    state, params, stats = state_of(config, image_size=size, classes=3)
    features = 6 if config.aggregate == "average" else {"linear": 2 * 3, "hidden": 2 * 3}.get(name, 6 * 8) * 6
    x = images(2, *size, 3)
    expected = torch_logits(torch_cnn(config, features), state, x)
    np.testing.assert_allclose(logits(config, state, x, image_size=size, classes=3), expected, rtol=1e-4, atol=1e-5)
    exported = weights.to_state_dict(*weights.to_params(state, config, params, stats), config)
    assert all(np.array_equal(exported[key], array) for key, array in state.items() if array.ndim)


# --- families that torchvision lacks --------------------------------------------------------------------------------


def torch_wide_resnet(depth, width):
    """xternalz/WideResNet-pytorch's network, whose names RobustBench shares."""
    torch = pytest.importorskip("torch")
    nn, relu = torch.nn, torch.relu

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.bn1 = nn.BatchNorm2d(inputs)
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.convShortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

        def forward(self, x):
            activated = relu(self.bn1(x))
            branch = self.conv2(relu(self.bn2(self.conv1(activated))))
            return branch + (self.convShortcut(activated) if self.convShortcut else x)

    class Layer(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            blocks = (depth - 4) // 6
            self.layer = nn.Sequential(
                *(Block(outputs if i else inputs, outputs, 1 if i else stride) for i in range(blocks))
            )

        def forward(self, x):
            return self.layer(x)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.block1 = Layer(16, 16 * width, 1)
            self.block2 = Layer(16 * width, 32 * width, 2)
            self.block3 = Layer(32 * width, 64 * width, 2)
            self.bn1 = nn.BatchNorm2d(64 * width)
            self.fc = nn.Linear(64 * width, 10)

        def forward(self, x):
            x = relu(self.bn1(self.block3(self.block2(self.block1(self.conv1(x))))))
            return self.fc(x.mean((2, 3)))

    return Net()


def torch_cifar_resnet(depth, option):
    """akamaster/pytorch_resnet_cifar10's network."""
    torch = pytest.importorskip("torch")
    nn, relu = torch.nn, torch.relu

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.extra = outputs - inputs
            self.shortcut = nn.Sequential()
            if self.extra and option == "B":
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            branch = self.bn2(self.conv2(relu(self.bn1(self.conv1(x)))))
            if self.extra and option == "A":
                half = self.extra // 2
                return relu(branch + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, half, half)))
            return relu(branch + self.shortcut(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            for stage, (inputs, outputs) in enumerate([(16, 16), (16, 32), (32, 64)], start=1):
                blocks = [Block(inputs, outputs, 2 if stage > 1 else 1)]
                blocks += [Block(outputs, outputs, 1) for _ in range((depth - 2) // 6 - 1)]
                setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            self.linear = nn.Linear(64, 10)

        def forward(self, x):
            x = relu(self.bn1(self.conv1(x)))
            return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))

    return Net()


@pytest.mark.parametrize(
    ("config", "make"),
    [
        (WideResNet(16, 2, Head()), lambda: torch_wide_resnet(16, 2)),
        (CifarResNet(20, Head(), "A"), lambda: torch_cifar_resnet(20, "A")),
        (CifarResNet(20, Head(), "B"), lambda: torch_cifar_resnet(20, "B")),
    ],
)
def test_cifar_networks_equal_torch(config, make):
    module, x = make(), images(4, 32, 32, 3)
    state, params, stats = state_of(config, image_size=(32, 32), classes=10)
    expected = torch_logits(module, state, x)
    np.testing.assert_allclose(logits(config, state, x, classes=10), expected, rtol=1e-3, atol=1e-4)
    exported = weights.to_state_dict(*weights.to_params(state, config, params, stats), config)
    assert list(exported) == list(module.state_dict())
    assert all(np.array_equal(exported[key], array) for key, array in state.items() if array.ndim)


DINOV2_BLOCK = {
    "norm1.weight": (384,), "norm1.bias": (384,), "attn.qkv.weight": (1152, 384), "attn.qkv.bias": (1152,),
    "attn.proj.weight": (384, 384), "attn.proj.bias": (384,), "ls1.gamma": (384,), "norm2.weight": (384,),
    "norm2.bias": (384,), "mlp.fc1.weight": (1536, 384), "mlp.fc1.bias": (1536,), "mlp.fc2.weight": (384, 1536),
    "mlp.fc2.bias": (384,), "ls2.gamma": (384,),
}  # fmt: skip


def dinov2_file(registers):
    """Names and shapes in dinov2_vits14_pretrain.pth and dinov2_vits14_reg4_pretrain.pth."""
    shapes = {"cls_token": (1, 1, 384), "pos_embed": (1, 1370, 384)}
    shapes |= {"register_tokens": (1, 4, 384)} if registers else {}
    shapes |= {"mask_token": (1, 384), "patch_embed.proj.weight": (384, 3, 14, 14), "patch_embed.proj.bias": (384,)}
    shapes |= {f"blocks.{i}.{name}": shape for i in range(12) for name, shape in DINOV2_BLOCK.items()}
    return random_state(shapes | {"norm.weight": (384,), "norm.bias": (384,)})


@pytest.mark.parametrize("registers", [False, True])
def test_dinov2_files_fit_and_come_back_but_for_the_mask_token(registers):
    name = "dinov2_vits14_reg" if registers else "dinov2_vits14"
    config, state = architectures()[name], dinov2_file(registers)
    _, params, stats = our_model(config, image_size=(224, 224))
    with pytest.raises(UserError, match=r"head.out.kernel \(384, 7\) is not in the checkpoint"):
        weights.from_torch(state, config, params, stats)
    loaded = weights.from_torch(state, config, params, stats, replace=("head.*",))
    filled = paths.map_tree(lambda path, leaf: loaded.get(path, np.zeros(leaf.shape)), params)
    back = weights.to_state_dict(filled, stats, config)
    del state["mask_token"], back["head.weight"], back["head.bias"]
    assert list(back) == list(state)
    assert all(np.array_equal(back[key], array) for key, array in state.items())


# --- real weights ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "file"), [(20, "resnet20-12fca82f.th"), (56, "resnet56-4bfd9763.th")])
def test_published_cifar_checkpoints_equal_torch(real_data, depth, file):
    state = weights.read(real_data / "weights" / file)
    x = images(8, 32, 32, 3)
    expected = torch_logits(torch_cifar_resnet(depth, "A"), state, x)
    config = CifarResNet(depth, Head())
    np.testing.assert_allclose(logits(config, state, x, classes=10), expected, rtol=1e-4, atol=1e-4)


def test_airbench_files_fit_without_the_scales_of_their_norms():
    config, state = architectures()["airbench94"], {"whiten.weight": (24, 3, 2, 2), "whiten.bias": (24,)}
    for layer, before, after in ((1, 24, 64), (2, 64, 256), (3, 256, 256)):
        state |= {f"layers.{layer}.conv1.weight": (after, before, 3, 3)}
        state |= {f"layers.{layer}.conv2.weight": (after, after, 3, 3)}
        leaves = ("weight", "bias", "running_mean", "running_var")
        state |= {f"layers.{layer}.norm{i}.{leaf}": (after,) for i in (1, 2) for leaf in leaves}
    state = random_state(state | {"head.weight": (10, 256)})
    _, params, stats = our_model(config, image_size=(32, 32), classes=10)
    back = weights.to_state_dict(*weights.to_params(state, config, params, stats), config)
    assert {name for name in state if name not in back} == {
        f"layers.{layer}.norm{i}.weight" for layer in (1, 2, 3) for i in (1, 2)
    }
    assert all(np.array_equal(array, back[name]) for name, array in state.items() if name in back)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_every_problem_is_reported_at_once():
    config = ResNet("resnet18", Head())
    state, params, stats = state_of(config)
    del state["layer1.0.conv1.weight"], state["bn1.running_var"]
    state["fc.weight"], state["fc.bias"] = np.zeros((1000, 512), np.float32), np.zeros(1000, np.float32)
    state["conv1.weight"] = np.zeros((64, 3), np.float32)
    state["layer1.0.se.fc.weight"] = np.zeros(3, np.float32)
    state["linear.bias"] = np.zeros(7, np.float32)
    state["layer9.0.conv1.weight"] = np.zeros((2, 2, 3, 3), np.float32)
    with pytest.raises(UserError) as error:
        weights.from_torch(state, config, params, stats)
    assert sorted(str(error.value).splitlines()[1:]) == sorted(
        [
            "  layer1.0.se.fc.weight (3,) of the checkpoint has no counterpart in a ResNet",
            "  linear.bias (7,) of the checkpoint is head.out.bias, which it has under another name too",
            "  conv1.weight (64, 3) of the checkpoint has not the 4 axes of conv1.kernel",
            "  conv1.kernel is (7, 7, 3, 64) here and (64, 3) in the checkpoint",
            "  layer1.0.conv1.kernel (3, 3, 64, 64) is not in the checkpoint",
            "  bn1.var (64,) is not in the checkpoint",
            "  head.out.kernel is (512, 7) here and (512, 1000) in the checkpoint",
            "  head.out.bias is (7,) here and (1000,) in the checkpoint",
            "  layer9.0.conv1.kernel (3, 3, 2, 2) of the checkpoint has no place in the model",
        ]
    )


@pytest.mark.parametrize("name", ["fc", "linear", "head", "classifier", "classifier.1", "linear_head"])
def test_any_usual_name_of_an_output_layer_is_understood(name):
    config = ResNet("resnet18", Head())
    state, params, stats = state_of(config)
    renamed = {key.replace("fc.", f"{name}."): array for key, array in state.items()}
    loaded = weights.from_torch(renamed, config, params, stats)
    np.testing.assert_array_equal(loaded["head.out.kernel"], state["fc.weight"].T)


def test_a_replaced_head_may_have_any_shape_or_be_missing():
    config = ResNet("resnet18", Head(batch_norm=True, hidden=(Dense(16),)))
    _, params, stats = our_model(config)
    state, _, _ = state_of(ResNet("resnet18", Head()), classes=1000)
    loaded = weights.from_torch(state, config, params, stats, replace=("head.*",))
    assert not any(path.startswith("head.") for path in loaded)
    assert loaded.keys() == {p for t in (params, stats) for p in paths.flatten(t) if not p.startswith("head.")}


def test_half_precision_is_widened_exactly():
    config = ResNet("resnet18", Head())
    state, params, stats = state_of(config)
    half = {key: array.astype(np.float16) if array.ndim else array for key, array in state.items()}
    params, stats = weights.to_params(half, config, params, stats)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, stats))} == {jnp.dtype(jnp.float32)}
    back = weights.to_state_dict(params, stats, config)
    assert all(np.array_equal(back[key], array) for key, array in half.items() if array.ndim)
