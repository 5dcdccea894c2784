"""The pure functions that evaluate: from canvases to logits, and from a batch to metrics."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt

from imgcls_jax import config as c
from imgcls_jax.augment.targets import targets
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation.metrics import Figures, update
from imgcls_jax.models.network import Tree
from imgcls_jax.optim.losses import Loss

Batch = dict[str, Array]
"""{"image": uint8 [b, h, w, c], "label": int32 [b] (or [b, k], see `augment.targets`), "mask": bool
[b]}; rows whose mask is False are padding."""
Predict = Callable[[tuple[Tree, Tree], UInt[Array, "b H W c"]], Float[Array, "b k"]]
EvalStep = Callable[[tuple[Tree, Tree], Figures, Batch], tuple[Figures, Float[Array, "b k"]]]


def build_predict(
    graph: nnx.GraphDef,
    *,
    prepare: Callable[[Array], Array],
    average: Callable[[Float[Array, "views b k"]], Float[Array, "b k"]] | None = None,
) -> Predict:
    """Build the function (variables, canvases) → float32 logits.

    `variables` are (all parameters, statistics); `prepare` crops and normalizes canvases to float [b, h, w, c]. With
    `average`, which makes one prediction of several, `prepare` gives views [views, b, h, w, c] instead.
    """

    def predict(variables: tuple[Tree, Tree], canvases: UInt[Array, "b H W c"]) -> Float[Array, "b k"]:
        def logits(images: Float[Array, "b h w c"]) -> Float[Array, "b k"]:
            return nnx.merge(graph, *variables)(images).astype(jnp.float32)

        images = prepare(canvases)
        # One view after the other takes the memory of one.
        return logits(images) if average is None else average(jax.lax.map(logits, images))

    return predict


def build_eval_step(predict: Predict, *, loss: Loss, num_classes: int, metrics: Sequence[c.Metric] = ()) -> EvalStep:
    """Build the function (variables, sums so far, batch) → (sums, logits [b, k]); masked rows do not count in the sums.

    Args:
      predict: as `build_predict` makes it.
      loss: the training's, label smoothing included; with views it is that of the averaged prediction.
      num_classes: length of the labels' distributions.
      metrics: those of the config.
    """

    def eval_step(variables: tuple[Tree, Tree], figures: Figures, batch: Batch) -> tuple[Figures, Float[Array, "b k"]]:
        logits = predict(variables, batch["image"])
        losses = loss(logits, targets(batch["label"], num_classes))
        figures = update(figures, metrics, loss=losses, logits=logits, label=batch["label"], mask=batch["mask"])
        return figures, logits

    return eval_step


def build_features(
    graph: nnx.GraphDef, *, prepare: Callable[[Array], Array]
) -> Callable[[tuple[Tree, Tree], UInt[Array, "b H W c"]], Float[Array, "b features"]]:
    """Make a function (variables, canvases) → float32 input of the network's head.

    It is the entry of `model.stages(x)` before "head"; where that is a feature map, its average over all positions.

    Raises:
      UserError: when the function is traced, if the model does not tell the input of its head.
    """

    def features(variables: tuple[Tree, Tree], canvases: UInt[Array, "b H W c"]) -> Float[Array, "b features"]:
        model = nnx.merge(graph, *variables)
        stages = model.stages(prepare(canvases)) if hasattr(model, "stages") else {}
        names = list(stages)
        if "head" not in names[1:]:
            raise UserError(
                f"features need the method stages(x) of {type(model).__name__}, which gives the output of every stage "
                f'by name, the input of the head just before "head"; it gives {", ".join(names) or "nothing"}'
            )
        x = stages[names[names.index("head") - 1]].astype(jnp.float32)
        return x.mean(tuple(range(1, x.ndim - 1)))

    return features
