"""Compare a model with torchvision's, layer by layer, on the same weights and images:
`python -m imgcls_jax.parity --model resnet50 [--checkpoint FILE] [--image-size N]`.

Prints the error of every layer's output and names the first layer that diverges; the exit status is 1 if one does.
Needs torch and torchvision.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from unittest import mock

import jax.numpy as jnp
import numpy as np
from flax import nnx

from imgcls_jax import flags, models, weights
from imgcls_jax.errors import UserError
from imgcls_jax.torch_peer import import_torchvision

BATCH = 2
TOLERANCE = 10.0
"""A layer diverges when its error is this many times torch's own in float32, both against torch in float64."""
FLOOR = 1e-6
"""Relative error that float32 is always allowed, however exact torch is."""


class Row(NamedTuple):
    """One layer's output, compared."""

    layer: str
    """torchvision's name of it."""
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__, config=False)
    parser.add_argument("--model", required=True, help="an architecture of torchvision, such as resnet50")
    parser.add_argument("--checkpoint", help="weights: a file or a catalogue name; default: random ones")
    parser.add_argument("--image-size", type=int, default=64, help="side of the random images, pixels; default: 64")
    options = parser.parse_args(arguments)

    module, model = load(options.model, options.checkpoint, options.image_size)
    rows = compare(module, model, options.image_size)
    print(table(rows))
    first = next((row for row in rows if row.diverges), None)
    if first:
        print(
            f"{first.layer} is the first layer that diverges: relative error {first.error:.1e} where torch's own "
            f"rounding makes {first.torch_error:.1e}; greatest absolute difference {first.largest:.1e}"
        )
        sys.exit(1)
    print(f"all {len(rows)} layers agree; relative error of the logits: {rows[-1].error:.1e}")


def load(name: str, checkpoint: str | None, image_size: int) -> tuple[Any, nnx.Module]:
    """torchvision's model and ours with the same weights.

    Raises:
      UserError: torch or torchvision is missing or lacks the model, or the checkpoint does not fit.
    """
    try:
        zoo = import_torchvision().models
    except ImportError as error:
        raise UserError(f"parity compares with torchvision ({error}): pip install 'imgcls_jax[parity]'") from None
    import torch

    both = sorted(set(models.MODELS) & set(zoo.list_models()))
    if name not in both:
        raise UserError(f"--model {name}: torchvision and we have only {', '.join(both)} in common")
    config = models.MODELS[name]
    if checkpoint:
        state = weights.read(weights.resolve(checkpoint)[0])
    else:
        torch.manual_seed(0)
        state = {key: tensor.numpy() for key, tensor in zoo.get_model(name).state_dict().items()}
        rng = np.random.default_rng(0)
        for key, array in state.items():  # statistics start at 0 and 1, which would hide a mistake in them
            if key.endswith("running_mean"):
                state[key] = rng.normal(0, 0.1, array.shape).astype(np.float32)
            if key.endswith("running_var"):
                state[key] = rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
    classes = len(state.get("fc.bias", state.get("classifier.1.bias", range(1000))))

    model = models.build(
        config,
        num_classes=classes,
        channels=3,
        image_size=(image_size, image_size),
        dtype=jnp.float32,
        rngs=nnx.Rngs(0),
    )
    graphdef, *states = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
    initial_params, initial_stats, rest = map(nnx.to_pure_dict, states)
    params, stats = weights.to_params(state, config, initial_params, initial_stats)
    model = nnx.merge(graphdef, params, stats, rest)

    module = zoo.get_model(name, num_classes=classes)
    # Not strict: that nothing is missing is known by now, but for counters that not every file has.
    module.load_state_dict({key: torch.tensor(array.astype(np.float32)) for key, array in state.items()}, strict=False)
    return module, model


def compare(module: Any, model: nnx.Module, image_size: int) -> list[Row]:
    """Every layer that both models have, in the order in which torch runs them, the logits last.

    Raises:
      UserError: torch's logits are the same for every image, so that equal logits would show nothing.
    """
    x = np.random.default_rng(0).standard_normal((BATCH, image_size, image_size, 3)).astype(np.float32)
    ours = our_outputs(model, x)
    rounded = torch_outputs(module, x)
    exact = torch_outputs(module.double(), x)
    if np.ptp(exact["logits"], axis=0).max() == 0:
        raise UserError("with these weights torch's logits do not depend on the image: nothing can be compared")
    return [_row(name, ours[name], rounded[name], exact[name]) for name in exact if name in ours]


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


def our_outputs(model: nnx.Module, x: np.ndarray) -> dict[str, np.ndarray]:
    """The same for our model, under torchvision's names: each stage's output, and each submodule's."""
    model = nnx.view(
        model, raise_if_not_found=False, deterministic=True, use_running_average=True, update_running=False
    )
    with _recording(model) as outputs:
        stages = model.stages(jnp.asarray(x))  # type: ignore[attr-defined]
    outputs |= {name: np.asarray(output) for name, output in stages.items() if name != "relu"}
    output_layer = "classifier.1" if isinstance(model, models.SqueezeNet) else "fc"
    return outputs | {output_layer: outputs["head.out"], "logits": outputs["head"]}


@contextlib.contextmanager
def _recording(model: nnx.Module) -> Iterator[dict[str, np.ndarray]]:
    """Collect the output of every submodule that is called inside, by its path; only outside `jit`."""
    paths = {id(part): ".".join(map(str, path)) for path, part in nnx.iter_modules(model)}
    outputs: dict[str, np.ndarray] = {}

    def recorded(call: Callable) -> Callable:
        def wrapper(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
            output = call(self, *args, **kwargs)
            if id(self) in paths:
                outputs[paths[id(self)]] = np.asarray(output)
            return output

        return wrapper

    with contextlib.ExitStack() as stack:
        for kind in {type(part) for _, part in nnx.iter_modules(model) if callable(part)}:
            stack.enter_context(mock.patch.object(kind, "__call__", recorded(kind.__call__)))
        yield outputs


def table(rows: Sequence[Row]) -> str:
    """The rows as text, those that diverge marked."""
    lines = [("layer", "shape", "error", "torch's own", "")]
    for row in rows:
        mark = "DIVERGES" if row.diverges else ""
        lines.append((row.layer, "×".join(map(str, row.shape)), f"{row.error:.1e}", f"{row.torch_error:.1e}", mark))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


if __name__ == "__main__":
    flags.run(main)
