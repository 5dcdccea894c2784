"""Random weights that torch's models and ours can both be given, without storing them."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from imgcls_jax.doctor import torch_peer

LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
HEADS = {"ResNet": "fc", "CifarResNet": "linear", "SqueezeNet": "classifier.1"}


def random_values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Plausible float32 values of a torch tensor, a function of its name and shape only."""
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.rsplit(".")[-1]
    if leaf == "running_var":
        return (0.5 + np.abs(draw)).astype(np.float32)
    if leaf == "weight" and len(shape) > 1:
        return (draw * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)
    if leaf in ("weight", "gamma"):
        return (1 + 0.2 * draw).astype(np.float32)
    return (0.1 * draw).astype(np.float32)


def torch_name(path: tuple, kind: str) -> str:
    """("layer1", 0, "conv1", "kernel") → "layer1.0.conv1.weight"."""
    *parts, leaf = map(str, path)
    module = ".".join(parts)
    if module == "head.out":
        module = HEADS.get(kind, module)
    return ".".join(filter(None, [module, LEAVES.get(leaf, leaf)]))


def to_ours(value: np.ndarray) -> np.ndarray:
    """A torch tensor's layout → ours: OIHW → HWIO, linear kernels transposed."""
    return np.transpose(value, {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim))))


def to_torch(value: np.ndarray) -> np.ndarray:
    """The inverse of `to_ours`."""
    return np.transpose(value, {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim, tuple(range(value.ndim))))


def flat(tree: dict, kind: str) -> dict[str, np.ndarray]:
    """Our pure dict of parameters or statistics as {torch name: array in torch's layout}."""
    return {
        torch_name(tuple(k.key for k in path), kind): to_torch(np.asarray(leaf))
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def fill(model: nnx.Module, kind: str, dtype=jnp.float32) -> nnx.Module:
    """The model with `random_values` in place of all parameters and statistics."""

    def value(path, leaf):
        shape = jax.eval_shape(to_torch_shape, leaf).shape
        values = random_values(torch_name(tuple(k.key for k in path), kind), shape)
        return jnp.asarray(to_ours(values), dtype)

    def to_torch_shape(x):
        return jnp.transpose(x, {4: (3, 2, 0, 1), 2: (1, 0)}.get(x.ndim, tuple(range(x.ndim))))

    graphdef, state = nnx.split(model)
    return nnx.merge(graphdef, jax.tree.map_with_path(value, nnx.to_pure_dict(state)))


def fill_torch(module) -> None:
    """The same for a torch module, in place."""
    import torch

    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.ndim:  # not num_batches_tracked
                tensor.copy_(torch.from_numpy(random_values(name, tuple(tensor.shape))))


def import_torchvision():
    """torchvision; without it the test is skipped."""
    try:
        return torch_peer.import_torchvision()
    except ImportError as error:
        pytest.skip(f"torchvision needed: {error}")


def images(shape: tuple[int, int, int, int], seed: int = 0) -> np.ndarray:
    """Normal float32 images [b, h, w, c]."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def torch_run(module, x: np.ndarray, *, train: bool) -> dict[str, dict[str, np.ndarray]]:
    """Every stage's output (NHWC), and the gradients and statistics after one backward pass of `loss` in training
    mode, keyed by torch's names."""
    import torch

    stages: dict[str, np.ndarray] = {}

    def keep(name):
        def hook(_, __, output):
            value = output.detach().clone().numpy()
            stages[name] = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value

        return hook

    handles = [layer.register_forward_hook(keep(name)) for name, layer in module.named_modules()]
    module.train(train)
    dtype = next(module.parameters()).dtype
    logits = module(torch.from_numpy(x.transpose(0, 3, 1, 2)).to(dtype))
    for handle in handles:
        handle.remove()
    module.zero_grad()
    (logits * torch.linspace(-1, 1, logits.numel(), dtype=dtype).reshape(logits.shape)).sum().backward()
    return {
        "stages": stages,
        "grads": {name: p.grad.numpy() for name, p in module.named_parameters()},
        "stats": {name: b.numpy().copy() for name, b in module.named_buffers() if b.ndim},
    }


def our_run(model: nnx.Module, x: np.ndarray, kind: str, *, train: bool) -> dict[str, dict[str, np.ndarray]]:
    """The same for our model, without dropout."""
    view = nnx.view(
        model, raise_if_not_found=False, deterministic=True, use_running_average=not train, update_running=train
    )
    graphdef, params, stats = nnx.split(view, nnx.Param, ...)

    @jax.jit
    def run(params, stats, x):
        def loss(params):
            merged = nnx.merge(graphdef, params, stats)
            maps = merged.stages(x)
            logits = maps["head"]
            weights = jnp.linspace(-1, 1, logits.size).reshape(logits.shape)
            return (logits * weights).sum(), (maps, nnx.to_pure_dict(nnx.state(merged, nnx.BatchStat)))

        return jax.grad(loss, has_aux=True)(params)

    grads, (maps, new_stats) = run(nnx.to_pure_dict(params), nnx.to_pure_dict(stats), x)
    return {
        "stages": {name: np.asarray(value) for name, value in maps.items()},
        "grads": flat(grads, kind),
        "stats": flat(new_stats, kind),
    }


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference relative to the norm of what is expected."""
    assert actual.shape == expected.shape
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))


def sample(value: np.ndarray) -> np.ndarray:
    """Eight values, spread evenly over the array, float32."""
    flat_value = np.asarray(value).reshape(-1)
    return flat_value[np.linspace(0, flat_value.size - 1, 8).astype(int)].astype(np.float32)
