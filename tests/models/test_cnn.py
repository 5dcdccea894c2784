"""The plain CNNs that people describe in configs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax.config import CNN, Conv, Dense, DINOv2, Head, SqueezeNet, WideResNet
from imgcls_jax.errors import UserError


def make(config, *, num_classes=10, channels=3, image_size=(32, 32)):
    return config.build(
        num_classes=num_classes, channels=channels, image_size=image_size, dtype=jnp.float32, rngs=nnx.Rngs(0)
    )


def count(config, **data):
    model = nnx.eval_shape(lambda: make(config, **data))
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def conv_count(*layers):
    """Parameters of convolutions given as (in, out, kernel), with biases."""
    return sum(n_out * (n_in * kernel**2 + 1) for n_in, n_out, kernel in layers)


def linear_count(*widths):
    return sum(after * (before + 1) for before, after in itertools.pairwise(widths))


def dense(*widths):
    return tuple(Dense(width) for width in widths)


def test_sketch_baseline():
    # 64 → 60 → 30 → 26 → 13 → 9 → 4 pixels: 20 · 4 · 4 = 320 features.
    config = CNN(tuple(Conv(n, 5, pool=2) for n in (10, 20, 20)), "flatten", Head(hidden=dense(50)))
    expected = conv_count((3, 10, 5), (10, 20, 5), (20, 20, 5)) + linear_count(320, 50, 500)
    assert count(config, num_classes=500, image_size=(64, 64)) == expected


def test_simple_cifar100_cnn():
    config = CNN(tuple(Conv(n, 3, padding=1, pool=2) for n in (32, 64, 128)), "flatten", Head(hidden=dense(256)))
    expected = conv_count((3, 32, 3), (32, 64, 3), (64, 128, 3)) + linear_count(2048, 256, 100)
    assert count(config, num_classes=100) == expected


def test_three_blocks_with_batch_norm():
    """Two 3×3 convolutions a block, BatchNorm after the first of each, dropout of channels and of features."""
    blocks = []
    for first, second in ((32, 64), (128, 128), (256, 256)):
        blocks += [
            Conv(first, 3, padding=1, norm="batch"),
            Conv(second, 3, padding=1, pool=2, dropout=0.05),
        ]
    hidden = (Dense(1024, dropout=0.1), Dense(512, dropout=0.1))
    config = CNN(tuple(blocks), "flatten", Head(hidden=hidden))
    convs = conv_count((3, 32, 3), (32, 64, 3), (64, 128, 3), (128, 128, 3), (128, 256, 3), (256, 256, 3))
    assert count(config) == convs + 2 * (32 + 128 + 256) + linear_count(4096, 1024, 512, 10)


def dogs(sigmoid):
    return CNN(
        tuple(Conv(n, 3, pool=2) for n in (32, 64, 128)),
        "flatten",
        Head(dropout=0.5, hidden=dense(512), sigmoid=sigmoid),
    )


def test_dogs_count_is_the_reports():
    data = {"num_classes": 2, "image_size": (180, 180)}
    assert count(dogs(sigmoid=True), **data) == 26_308_673
    model = nnx.eval_shape(lambda: make(dogs(sigmoid=True), **data))
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))

    def size(*layers):
        return sum(leaf.size for leaf in jax.tree.leaves(layers))

    first, second, third = (params["convs"][i] for i in range(3))
    assert params["head"]["hidden"][0]["linear"]["kernel"].shape == (51_200, 512)
    assert size(first, second, params["head"]["out"]) == 19_905
    assert size(second, third, params["head"]["out"]) == 92_865


def test_imagenette_model():
    config = CNN(
        tuple(
            Conv(n, kernel, padding=kernel // 2, norm="batch", activation="leaky_relu", pool=2, dropout=0.3)
            for n, kernel in ((32, 7), (64, 5), (128, 3))
        ),
        "flatten",
        Head(hidden=(Dense(512, norm="batch", activation="leaky_relu", dropout=0.3),)),
        init="kaiming_normal",
    )
    expected = conv_count((3, 32, 7), (32, 64, 5), (64, 128, 3)) + linear_count(51_200, 512, 10)
    assert count(config, image_size=(160, 160)) == expected + 2 * (32 + 64 + 128 + 512)


@pytest.mark.slow
def test_forward_matches_torch_with_the_flatten_permuted():
    torch = pytest.importorskip("torch")
    config = CNN(
        (Conv(4, 5, pool=2, activation="leaky_relu"), Conv(6, 3, stride=2, padding=1, norm="batch")),
        "flatten",
        Head(hidden=(Dense(8, activation="sigmoid"),)),
        leaky_slope=0.2,
    )
    model = make(config, image_size=(16, 20))
    conv1, conv2, bn = torch.nn.Conv2d(3, 4, 5), torch.nn.Conv2d(4, 6, 3, 2, 1), torch.nn.BatchNorm2d(6)
    fc1, fc2 = torch.nn.Linear(6 * 3 * 4, 8), torch.nn.Linear(8, 10)
    theirs = torch.nn.Sequential(
        conv1, torch.nn.LeakyReLU(0.2), torch.nn.MaxPool2d(2), conv2, bn, torch.nn.ReLU(),
        torch.nn.Flatten(), fc1, torch.nn.Sigmoid(), fc2,
    )  # fmt: skip
    hidden = model.head.hidden[0].linear
    for mine, other in ((model.convs[0].conv, conv1), (model.convs[1].conv, conv2)):
        mine.kernel[...] = jnp.asarray(other.weight.detach().numpy().transpose(2, 3, 1, 0))
    # torch's rows are in (channel, row, column) order, ours in (row, column, channel) order.
    rows = fc1.weight.detach().numpy().T.reshape(6, 3, 4, 8).transpose(1, 2, 0, 3).reshape(72, 8)
    hidden.kernel[...] = jnp.asarray(rows)
    model.head.out.kernel[...] = jnp.asarray(fc2.weight.detach().numpy().T)
    for mine, other in (
        (model.convs[0].conv, conv1), (model.convs[1].conv, conv2), (hidden, fc1), (model.head.out, fc2)
    ):  # fmt: skip
        mine.bias[...] = jnp.asarray(other.bias.detach().numpy())
    x = np.random.default_rng(0).standard_normal((5, 16, 20, 3)).astype(np.float32)
    expected = theirs(torch.from_numpy(x.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(model(jnp.asarray(x)), expected, atol=1e-6)


def test_too_small_image_names_the_layer():
    config = CNN(tuple(Conv(4, 3, pool=2) for _ in range(3)), "flatten", Head())
    with pytest.raises(UserError, match=r"convs\[2\]: the convolution of window 3 .* 2×6 pixels \(.* 14×32\)"):
        make(config, image_size=(14, 32))
    with pytest.raises(UserError, match=r"convs\[0\]: the pooling of window 4 .* 3×3 pixels"):
        make(CNN((Conv(4, 3, pool=4),), "average", Head()), image_size=(5, 5))


@pytest.mark.parametrize(
    ("config", "data", "message"),
    [
        (dogs(sigmoid=True), {"num_classes": 3}, "one logit for two classes, but the data has 3"),
        (SqueezeNet("1_1"), {"image_size": (40, 16)}, r"features\.8 is left with 1 pixels"),
        (SqueezeNet("1_0"), {"image_size": (6, 40)}, "7×7 kernel, but the image is 6×40"),
        (DINOv2("small", Head()), {"image_size": (28, 32)}, "28×32: use multiples of 14"),
        (WideResNet(27, 1, Head()), {}, "6n \\+ 4 .*not 27"),
    ],
)
def test_impossible_inputs(config, data, message):
    with pytest.raises(UserError, match=message):
        make(config, **data)
