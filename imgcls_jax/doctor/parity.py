"""Compare a model with its original in torch, layer by layer, on the same weights and images.

Needs torch, and the package of the original: torchvision or another.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from imgcls_jax import models, weights
from imgcls_jax.config.model import Model
from imgcls_jax.display import tables
from imgcls_jax.doctor.torch_peer import import_torchvision
from imgcls_jax.errors import UserError
from imgcls_jax.models.watching import watching

BATCH = 2
TOLERANCE = 10.0
"""A layer diverges when its error is this many times torch's own in float32, both against torch in float64."""
FLOOR = 1e-6
"""Relative error that float32 is always allowed, however exact torch is."""


class Row(NamedTuple):
    """One layer's output, compared."""

    layer: str
    """torch's name of it."""
    shape: tuple[int, ...]
    """Of the output, in our layout."""
    error: float
    """Norm of the difference to torch in float64, relative to the norm of that."""
    torch_error: float
    """The same of torch in float32: what rounding alone does."""
    largest: float
    """Greatest absolute difference to torch in float64."""

    @property
    def diverges(self) -> bool:
        # Not `error > limit`: NaN diverges too.
        return not self.error <= TOLERANCE * max(self.torch_error, FLOOR)


def load(name: str, checkpoint: str | None, image_size: int) -> tuple[Any, nnx.Module]:
    """The torch network and ours with the same weights.

    Raises:
      UserError: torch or the package of the network is missing or lacks the model, or the checkpoint does not fit.
    """
    config = models.architectures().get(name)
    try:
        make = functools.partial(_peer, name, config, image_size)
        if checkpoint:
            state = dict(weights.read(weights.resolve(checkpoint)[0]))
            module = make(_classes(state, config) if config else None)
        else:
            module = make(None)
            state = _random_state(module)
    except ImportError as error:
        raise UserError(f"parity compares with torch ({error}): pip install 'imgcls_jax[parity]'") from None
    assert config is not None  # or there were no peer
    import torch

    model = config.build(
        num_classes=_classes(state, config),
        channels=3,
        image_size=(image_size, image_size),
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    initial_params, initial_stats, rest = map(nnx.to_pure_dict, states)
    params, stats = weights.to_params(state, config, initial_params, initial_stats)
    model = nnx.merge(graphdef, params, stats, rest)

    # Not strict: that nothing is missing is known by now, but for counters that not every file has.
    module.load_state_dict({key: torch.tensor(array.astype(np.float32)) for key, array in state.items()}, strict=False)
    return module, model


def _peer(name: str, config: Model | None, image_size: int, num_classes: int | None) -> Any:
    """Make the torch network, with the number of classes that it is published with where None is given."""
    import torch

    torch.manual_seed(0)
    classes = num_classes or 1000
    module = config and config.torch_peer(name, num_classes=classes, image_size=(image_size, image_size))
    if module is not None:
        return module
    torchvision = import_torchvision().models
    ours = models.architectures()
    if config is None or name not in torchvision.list_models():
        own = {known for known, model in ours.items() if type(model).torch_peer is not Model.torch_peer}
        both = sorted(own | set(ours) & set(torchvision.list_models()))
        raise UserError(f"--model {name}: there is a torch network to compare with only for {', '.join(both)}")
    return torchvision.get_model(name, num_classes=classes)


def _classes(state: Mapping[str, np.ndarray], config: Model) -> int:
    """The number of outputs that a state dict has."""
    biases = (len(state[key]) for key in state for rule in config.torch_rules() if rule.path_of(key) == "head.out.bias")
    return next(biases, config.usual_classes)


def _random_state(module: Any) -> dict[str, np.ndarray]:
    """The module's state, with statistics that differ from 0 and 1, which would hide a mistake in them."""
    state = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    rng = np.random.default_rng(0)
    for key, array in state.items():
        if key.endswith("running_mean"):
            state[key] = rng.normal(0, 0.1, array.shape).astype(np.float32)
        if key.endswith("running_var"):
            state[key] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
    return state


def compare(module: Any, model: nnx.Module, image_size: int) -> list[Row]:
    """Every layer that both models have, in the order in which torch runs them, the logits last.

    Raises:
      UserError: torch's logits are the same for every image, so that equal logits would show nothing.
    """
    x = np.random.default_rng(0).standard_normal((BATCH, image_size, image_size, 3)).astype(np.float32)
    # The layer that gives the logits is the last one with parameters.
    *_, last = (name for name, part in module.named_modules() if list(part.parameters(recurse=False)))
    ours = our_outputs(model, x, _plain(last))
    rounded = torch_outputs(module, x)
    exact = torch_outputs(module.double(), x)
    if np.ptp(exact["logits"], axis=0).max() == 0:
        raise UserError("with these weights torch's logits do not depend on the image: nothing can be compared")
    return [_row(name, ours[_plain(name)], rounded[name], exact[name]) for name in exact if _plain(name) in ours]


def _plain(name: str) -> str:
    """A torch name without the underscores that some networks begin every part with, and ours do not."""
    return re.sub(r"(^|\.)_", r"\1", name)


def _row(name: str, ours: np.ndarray, rounded: np.ndarray, exact: np.ndarray) -> Row:
    if ours.size != exact.size:
        return Row(name, ours.shape, np.inf, 0.0, np.inf)
    exact, rounded = exact.reshape(ours.shape), rounded.reshape(ours.shape)  # torch keeps axes of one pixel
    scale = np.linalg.norm(exact) or 1.0
    difference = ours - exact
    return Row(
        name,
        ours.shape,
        float(np.linalg.norm(difference) / scale),
        float(np.linalg.norm(rounded - exact) / scale),
        float(np.abs(difference).max()),
    )


def torch_outputs(module: Any, x: np.ndarray) -> dict[str, np.ndarray]:
    """Each submodule's output in evaluation mode, in our layout, by name; the logits under "logits".

    ReLU is left out: torchvision runs one object several times, in place.
    """
    import torch

    outputs: dict[str, np.ndarray] = {}

    def keep(name: str) -> Callable:
        def hook(_: Any, __: Any, output: Any) -> None:
            output = output.clone().numpy()
            outputs[name] = output.transpose(0, 2, 3, 1) if output.ndim == 4 else output

        return hook

    handles = [
        part.register_forward_hook(keep(name or "logits"))
        for name, part in module.named_modules()
        if not isinstance(part, torch.nn.ReLU)
    ]
    with torch.no_grad():
        module.eval()(torch.tensor(x.transpose(0, 3, 1, 2), dtype=next(module.parameters()).dtype))
    for handle in handles:
        handle.remove()
    return outputs


def our_outputs(model: nnx.Module, x: np.ndarray, output_layer: str) -> dict[str, np.ndarray]:
    """The same for our model, under torch's names (`_plain`): each stage's output, and each submodule's.

    `output_layer` is torch's name of `head.out`.
    """
    model = nnx.view(
        model, raise_if_not_found=False, deterministic=True, use_running_average=True, update_running=False
    )
    outputs: dict[str, np.ndarray] = {}

    def seen(path: str, layer: nnx.Module, given: tuple[Any, ...], output: Any) -> None:
        outputs[path] = np.asarray(output)

    with watching(model, seen):
        stages = model.stages(jnp.asarray(x))  # type: ignore[attr-defined]
    outputs |= {name: np.asarray(output) for name, output in stages.items() if name != "relu"}
    return outputs | {output_layer: outputs["head.out"], "logits": outputs["head"]}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text, those that diverge marked."""
    cells = [
        (
            row.layer,
            "×".join(map(str, row.shape)),
            f"{row.error:.1e}",
            f"{row.torch_error:.1e}",
            "DIVERGES" if row.diverges else "",
        )
        for row in rows
    ]
    return tables.plain(("layer", "shape", "error", "torch's own", ""), cells)
