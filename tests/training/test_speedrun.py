"""Training steps of configs/cifar10_speedrun.py against its recipe written out in torch."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from model_reference import to_torch

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.config import io as files
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.state import join

EPOCHS, STEPS, BATCH = 2, 3, 10


@pytest.fixture(scope="module")
def run():
    """The config in float32, without augmentation, on a few small images and with a narrow network."""
    config = files.load(str(Path(__file__).parents[2] / "configs" / "cifar10_speedrun.py"))
    settings = dataclasses.replace(config.data, source=c.Arrays(), canvas=c.Canvas(10, 10), image_size=(10, 10))
    # The reference's rates are for losses summed over 2,000 images; for fewer images, SGD's fall with their number.
    muon = config.optim.optimizer
    muon = dataclasses.replace(muon, rest_learning_rate_scale=muon.rest_learning_rate_scale * BATCH / 2000)
    config = dataclasses.replace(
        config,
        optim=dataclasses.replace(config.optim, optimizer=muon),
        data=settings,
        augment=(),
        model=c.Airbench((25, 26, 27)),
        batch_size=BATCH,
        epochs=EPOCHS,
        precision="fp32",
        test_views=None,
        mesh=c.Mesh(devices=1),
    )
    rng = np.random.default_rng(0)
    count = STEPS * BATCH
    arrays = {"x_train": rng.integers(0, 256, (count, 10, 10, 3), np.uint8), "y_train": np.arange(count) % 10}
    return Experiment(config, data.load(config.data, arrays=arrays), meshes.make(config.mesh))


@pytest.mark.slow
def test_steps_are_those_of_the_recipe(run):
    torch = pytest.importorskip("torch")
    state = run.initial_state()
    values = flatten_dict(join(state.params, state.frozen), sep=".")
    # Copies, because the state is donated to the first step.
    theirs = {name: torch.tensor(to_torch(np.array(value))) for name, value in values.items()}
    start = {name: value.clone() for name, value in theirs.items()}
    train(torch, theirs, run)

    for epoch in range(EPOCHS):
        if epoch == 0:
            state, _ = run.enter_phase(state, 0, previous=0)
        for state, _, _ in run.training.epoch(state, epoch, 0):
            pass
    ours = flatten_dict(jax.device_get(join(state.params, state.frozen)), sep=".")
    for name, value in theirs.items():
        moved = (value - start[name]).abs().max().item()
        assert (moved > 1e-3) == (name != "whiten.kernel"), name
        np.testing.assert_allclose(to_torch(ours[name]), value.numpy(), rtol=0, atol=1e-3 * moved, err_msg=name)


def train(torch, p, run):
    """airbench94_muon's training of the parameters `p`, in place, but for Muon's momentum, which optax corrects for its
    start at zero, and the whitening bias, which trains like the other biases."""
    F = torch.nn.functional
    kernels = [name for name in p if ".conv" in name]
    biases = [name for name in p if name.endswith("bias")]
    for name in (*kernels, *biases, "head.out.kernel"):
        p[name].requires_grad_()
    total, decay = EPOCHS * STEPS, 2e-6 * BATCH
    groups = [
        {"params": [p[name] for name in biases], "lr": 0.053, "weight_decay": decay / 0.053},
        {"params": [p["head.out.kernel"]], "lr": 0.67, "weight_decay": decay / 0.67},
    ]
    sgd = torch.optim.SGD(groups, momentum=0.85, nesterov=True)
    first_rates = [group["lr"] for group in sgd.param_groups]
    momentum = {name: torch.zeros_like(p[name]) for name in kernels}

    def logits(x):
        x = F.gelu(F.conv2d(x, p["whiten.kernel"], p["whiten.bias"]))
        for layer in ("layer1", "layer2", "layer3"):
            x = F.max_pool2d(F.conv2d(x, p[f"{layer}.conv1.kernel"], padding=1), 2)
            x = F.gelu(F.batch_norm(x, None, None, bias=p[f"{layer}.bn1.bias"], training=True, eps=1e-12))
            x = F.conv2d(x, p[f"{layer}.conv2.kernel"], padding=1)
            x = F.gelu(F.batch_norm(x, None, None, bias=p[f"{layer}.bn2.bias"], training=True, eps=1e-12))
        return x.amax((2, 3)) @ p["head.out.kernel"].T / x.shape[1]

    split, settings = run.dataset.train, run.config.data
    for step in range(total):
        order = data.train_order(split.labels, "shuffle", run.config.seed, step // STEPS)
        rows = order[step % STEPS * BATCH :][:BATCH]
        images = (split.read(rows) / 255 - settings.mean) / settings.std
        x = torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float32)
        labels = torch.tensor(split.labels[rows]).long()
        sgd.zero_grad()
        for name in kernels:
            p[name].grad = None
        F.cross_entropy(logits(x), labels, label_smoothing=0.2, reduction="sum").backward()
        left = 1 - step / total
        for group, rate in zip(sgd.param_groups, first_rates, strict=True):
            group["lr"] = rate * left
        sgd.step()
        with torch.no_grad():
            for name in kernels:
                momentum[name] = 0.6 * momentum[name] + 0.4 * p[name].grad
                nesterov = 0.6 * momentum[name] / (1 - 0.6 ** (step + 2)) + 0.4 * p[name].grad / (1 - 0.6 ** (step + 1))
                p[name] *= len(p[name]) ** 0.5 / p[name].norm()
                p[name] -= 0.24 * left * orthogonal(nesterov.flatten(1)).reshape(p[name].shape)
    for name in p:
        p[name] = p[name].detach()


def orthogonal(matrix):
    """Three steps of Muon's Newton–Schulz iteration."""
    x = matrix / matrix.norm()
    for _ in range(3):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x
