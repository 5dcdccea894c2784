"""The same random weights for torch's models and ours, and the same three training steps on both sides."""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from model_reference import import_torchvision

from imgcls_jax import models, weights

GOLDEN = (("resnet18", "sgd"), ("squeezenet1_1", "adamw"))
"""Models and optimizers whose values golden/weights.npz has."""

CLASSES = 7
SHAPE = (4, 48, 64, 3)
# So small that rounding does not flip ReLUs and maxima between the steps, after which no two programs agree.
LEARNING_RATE = {"sgd": 1e-3, "adamw": 1e-4}


def torch_model(name):
    """torchvision's model with `random_state`, without dropout."""
    import torch

    module = getattr(import_torchvision().models, name)(num_classes=CLASSES)
    for part in module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
    module.load_state_dict({key: torch.from_numpy(value) for key, value in random_state(shapes).items()})
    return module


def our_model(config, image_size=SHAPE[1:3], classes=CLASSES):
    """Graph definition, parameters and statistics (nested dicts), all abstract but for the definition."""

    def make():
        model = config.build(
            num_classes=classes, channels=3, image_size=image_size, dtype=jnp.float32, rngs=nnx.Rngs(0)
        )
        return nnx.view(model, raise_if_not_found=False, deterministic=True)

    graphdef, params, stats, rest = nnx.split(nnx.eval_shape(make), nnx.Param, nnx.BatchStat, ...)
    del rest  # of dropout, which is off
    return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def random_state(shapes):
    """A plausible torch state dict, a function of the names and shapes only."""
    return {name: _random_values(name, shape) for name, shape in shapes.items()}


def _random_values(name, shape):
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    match name.rsplit(".")[-1]:
        case "num_batches_tracked":
            return np.array(zlib.crc32(name.encode()) % 1000, np.int64)
        case "running_var":
            draw = 0.5 + np.abs(draw)
        case "weight" if len(shape) > 1:
            draw = draw * np.sqrt(2 / np.prod(shape[1:]))
        case "weight":
            draw = 1 + 0.2 * draw
        case _:
            draw = 0.1 * draw
    return draw.astype(np.float32)


def images(step=0):
    """Normal float32 images [b, h, w, c] and labels [b]."""
    rng = np.random.default_rng(step)
    return rng.standard_normal(SHAPE).astype(np.float32), rng.integers(0, CLASSES, SHAPE[0])


def run_torch(module, optimizer_name, steps=3):
    """Logits in evaluation mode, gradients of the first training step, and how far some steps move the parameters
    ("updates") and the BatchNorm statistics. All numpy, by torch's names."""
    import torch

    before = {name: t.numpy().copy() for name, t in module.state_dict().items()}
    dtype = next(module.parameters()).dtype
    rate = LEARNING_RATE[optimizer_name]
    if optimizer_name == "sgd":
        optimizer = torch.optim.SGD(module.parameters(), rate, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(module.parameters(), rate, weight_decay=0.01)

    def batch(step):
        x, y = images(step)
        return torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).to(dtype), torch.from_numpy(y)

    with torch.no_grad():
        logits = module.eval()(batch(0)[0]).numpy()
    module.train()
    for step in range(steps):
        x, y = batch(step)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        if step == 0:
            grads = {name: p.grad.numpy().copy() for name, p in module.named_parameters()}
        optimizer.step()
    after = {name: t.numpy() for name, t in module.state_dict().items()}
    return {"logits": {"": logits}, "grads": grads} | _moved(before, after)


def _moved(before, after):
    moved = {k: after[k].astype(np.float64) - before[k] for k in after if before[k].ndim}
    is_statistic = {k: k.endswith(("running_mean", "running_var")) for k in moved}
    return {
        "updates": {k: d for k, d in moved.items() if not is_statistic[k]},
        "statistics": {k: d for k, d in moved.items() if is_statistic[k]},
    }


@functools.lru_cache(len(GOLDEN))  # two tests look at those; all others together would fill the memory
def run_ours(name, optimizer_name, steps=3):
    """The same for our model, with `random_state` imported through the key tables, and everything exported again."""
    config = models.architectures()[name]
    graphdef, params, stats = our_model(config)
    shapes = {key: array.shape for key, array in weights.to_state_dict(*_zeros(params, stats), config).items()}
    state = random_state(shapes)
    params, stats = weights.to_params(state, config, params, stats)
    rate = LEARNING_RATE[optimizer_name]
    optimizer = optax.sgd(rate, 0.9) if optimizer_name == "sgd" else optax.adamw(rate, weight_decay=0.01)

    def merged(params, stats, train):
        return nnx.view(
            nnx.merge(graphdef, params, stats),
            raise_if_not_found=False,
            use_running_average=not train,
            update_running=train,
        )

    # It runs three times, so to compile it fast saves more.
    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})
    def step(params, stats, slots, x, y):
        def loss(params):
            model = merged(params, stats, train=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(model(x), y)
            return losses.mean(), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        grads, new_stats = jax.grad(loss, has_aux=True)(params)
        updates, slots = optimizer.update(grads, slots, params)
        return optax.apply_updates(params, updates), new_stats, slots, grads

    logits = jax.jit(lambda p, s, x: merged(p, s, train=False)(x))(params, stats, images(0)[0])
    slots = optimizer.init(params)
    for i in range(steps):
        params, stats, slots, new_grads = step(params, stats, slots, *images(i))
        if i == 0:
            grads = weights.to_state_dict(new_grads, {}, config)
    after = weights.to_state_dict(params, stats, config)
    return {"logits": {"": np.asarray(logits)}, "grads": grads} | _moved(state, after)


def _zeros(*trees):
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), trees)


def limits(exact, rounded):
    """The error that is allowed for each array: some times that of torch in float32 against torch in float64, for the
    same array or, after three steps have mixed all errors, for the worst of its kind."""
    errors = {kind: {k: error(rounded[kind][k], exact[kind][k]) for k in exact[kind]} for kind in exact}
    return {
        kind: {
            k: 5 * (own if kind in ("logits", "grads") else max(errors[kind].values())) + 2e-5
            for k, own in errors[kind].items()
        }
        for kind in exact
    }


def projections(name, array):
    """Eight numbers that change by about as much as the array does, wherever it does."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    signs = rng.integers(0, 2, (8, array.size), np.int8) * 2 - 1
    return np.stack([sign @ array.ravel().astype(np.float64) for sign in signs])


def error(actual, expected):
    """Norm of the difference relative to the norm of what is expected."""
    assert actual.shape == expected.shape
    return float(np.linalg.norm(actual - expected) / max(np.linalg.norm(expected), 1e-30))
