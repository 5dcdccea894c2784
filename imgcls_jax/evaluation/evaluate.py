"""Evaluate a split: every example counts exactly once, on any number of devices."""

import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32

from imgcls_jax import config as c
from imgcls_jax import data
from imgcls_jax.augment import test_time
from imgcls_jax.config.experiment import Views
from imgcls_jax.data import Split
from imgcls_jax.evaluation import metrics
from imgcls_jax.evaluation.predictions import Predictions, named
from imgcls_jax.evaluation.steps import Batch, Predict, build_eval_step, build_predict
from imgcls_jax.models.network import Network, Tree
from imgcls_jax.optim.losses import Loss
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.parallel import transfer


def of_split(
    split: Split | None,
    config: c.Config,
    mesh: Mesh,
    network: Network,
    loss: Loss,
    *,
    num_outputs: int,
    views: Views | None,
    resident: bool,
) -> "Evaluation | None":
    """Make the evaluation of a split by the center of each image, or by its test-time views; None without the split."""
    if split is None:
        return None
    prepare, average = test_time.build(config, views)
    predict = build_predict(network.evaluate, prepare=prepare, average=average)
    return Evaluation(
        split, config, mesh, predict, loss, num_classes=num_outputs, resident=resident, views=views or "center"
    )


class Evaluation:
    """Evaluates one split: every example counts exactly once, by padding the last batch and masking the padding."""

    def __init__(
        self,
        split: Split,
        config: c.Config,
        mesh: Mesh,
        predict: Predict,
        loss: Loss,
        *,
        num_classes: int,
        resident: bool,
        views: str = "center",
    ):
        self._views = views
        self._split, self._mesh, self._metrics = split, mesh, config.metrics
        self._zeros: metrics.Figures | None = None
        self._threads = data.threads(config.data.workers)
        self._batch = config.eval_batch_size or config.batch_size
        self._data = transfer.upload(split, mesh) if resident else None
        self._predict = predict
        step = build_eval_step(predict, loss=loss, num_classes=num_classes, metrics=config.metrics)
        self._plain_step = step
        self._step = jax.jit(step, donate_argnums=1)
        self._gather = jax.jit(
            lambda data, rows: {name: array[rows] for name, array in data.items()},
            out_shardings=meshes.batch(mesh),
        )

    def __call__(self, variables: tuple[Tree, Tree]) -> dict[str, float]:
        """Compute the metrics over the whole split: {"loss", "top1", "top5", "count"}, or those of another
        task (`tasks.DIRECTIONS`), and those of the config."""
        return self._evaluate(variables, keep=metrics.need_all(self._metrics, self._split.labels))[0]

    @functools.cached_property
    def _step_of_members(self) -> Callable[..., tuple[metrics.Figures, jax.Array]]:
        return jax.jit(jax.vmap(self._plain_step, in_axes=(0, 0, None)), donate_argnums=1)

    def of_members(self, variables: tuple[Tree, Tree]) -> list[dict[str, float]]:
        """Compute the metrics of several networks at once, whose variables are stacked along a first axis."""
        keep = metrics.need_all(self._metrics, self._split.labels)
        members = len(jax.tree.leaves(variables)[0])

        def nothing(batch: Batch) -> metrics.Figures:
            one = jax.eval_shape(lambda stacked: jax.tree.map(lambda x: x[0], stacked), variables)
            return jax.tree.map(lambda x: jnp.stack([x] * members), self._nothing(one, batch))

        sums, kept = self._sum(self._step_of_members, variables, nothing, keep=keep)
        all_logits = np.concatenate(kept, 1)[:, : len(self._split)] if keep else None
        figures = jax.device_get(sums)
        return [
            metrics.result(
                jax.tree.map(lambda x, i=i: x[i], figures),
                self._metrics,
                None if all_logits is None else all_logits[i],
                self._split.labels,
            )
            for i in range(members)
        ]

    def predict(self, variables: tuple[Tree, Tree], class_names: Sequence[str]) -> tuple[dict[str, float], Predictions]:
        """Compute the metrics, as a call does, and the outputs for every image, in the same pass.

        Args:
          variables: (all parameters, statistics).
          class_names: of the data, by label.
        """
        figures, logits = self._evaluate(variables, keep=True)
        assert logits is not None, "they were asked for"
        names = named(tuple(class_names), logits.shape[1])
        split = self._split
        return figures, Predictions(logits, split.labels, tuple(split.ids), names, split.name, self._views)

    def _evaluate(
        self, variables: tuple[Tree, Tree], *, keep: bool
    ) -> tuple[dict[str, float], Float32[np.ndarray, "n outputs"] | None]:
        figures, kept = self._sum(self._step, variables, lambda batch: self._nothing(variables, batch), keep=keep)
        # The padding is behind the last example.
        logits = np.concatenate(kept)[: len(self._split)] if keep else None
        return metrics.result(figures, self._metrics, logits, self._split.labels), logits

    def _sum(
        self,
        step: Callable[..., tuple[metrics.Figures, jax.Array]],
        variables: tuple[Tree, Tree],
        nothing: Callable[[Batch], metrics.Figures],
        *,
        keep: bool,
    ) -> tuple[metrics.Figures, list[np.ndarray]]:
        """Add all batches up from `nothing`; return the sums and, if they are to be kept, the logits of each batch."""
        figures, kept = None, []
        for batch in self._batches():
            figures, logits = step(variables, nothing(batch) if figures is None else figures, batch)
            if keep:
                kept.append(logits)
        assert figures is not None, "a split has at least one image"
        return figures, [transfer.to_host(part) for part in kept]

    def _nothing(self, variables: tuple[Tree, Tree], batch: Batch) -> metrics.Figures:
        """The sums before the first batch."""
        if self._zeros is None:
            outputs = jax.eval_shape(self._predict, variables, batch["image"]).shape[-1] if self._metrics else 0
            self._zeros = metrics.init(self._metrics, outputs, self._split.labels)
        return meshes.put(self._zeros, meshes.replicated(self._mesh))

    def _batches(self) -> Iterator[Batch]:
        sharding = meshes.batch(self._mesh)
        if self._data is None:
            host = data.eval_batches(
                self._split,
                self._batch,
                process_index=jax.process_index(),
                process_count=jax.process_count(),
                threads=self._threads,
            )
            yield from transfer.ahead(host, sharding, lambda _: None)
            return
        for start in range(0, len(self._split), self._batch):
            rows = np.arange(start, start + self._batch)
            mask = rows < len(self._split)
            yield self._gather(self._data, np.where(mask, rows, 0)) | {"mask": transfer.rows(mask, sharding)}
