"""Which parameters are loaded, replaced, random; which train, from when, and how fast: decided once, before training.

Every parameter gets exactly one row. Whatever cannot be decided without guessing is an error that names the parameter.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from imgcls_jax.config.model import Model
from imgcls_jax.config.transfer import Transfer
from imgcls_jax.display import tables
from imgcls_jax.errors import UserError
from imgcls_jax.weights import paths
from imgcls_jax.weights.fit import fit

Source = Literal["loaded", "replaced", "computed", "random"]


@dataclasses.dataclass(frozen=True)
class Row:
    """What is decided for one parameter."""

    path: str
    shape: tuple[int, ...]
    source: Source
    """"replaced": the checkpoint was not to be used here; "computed": it follows from the training images; "random":
    there is no checkpoint."""
    trains_from: int | None
    """First epoch, counted from 0, in which it trains; None: never."""
    group: str
    """Pattern of its `Group`, or "default"."""
    learning_rate_scale: float
    """Factor on the schedule's learning rate, of its group and its stage."""
    weight_decay_scale: float

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def trains(self, epoch: int) -> bool:
        """Whether it trains in this epoch."""
        return self.trains_from is not None and self.trains_from <= epoch


@dataclasses.dataclass(frozen=True)
class Plan:
    """The rows of all parameters, in torch's order, and the values that were loaded."""

    rows: tuple[Row, ...]
    statistics: Mapping[str, Source]
    """Where each BatchNorm statistic comes from."""
    loaded: Mapping[str, np.ndarray]
    """Path → value of every loaded parameter and statistic, and of the computed ones."""

    @property
    def changes(self) -> tuple[int, ...]:
        """Epochs, ascending, from which other parameters train than before: those of the gradual unfreezing."""
        return tuple(sorted({row.trains_from for row in self.rows if row.trains_from}))

    def trainable(self, epoch: int, params: Mapping) -> dict:
        """`params` with a bool in place of each leaf: whether it trains in this epoch."""
        rows = self._by_path()
        return paths.map_tree(lambda path, _: rows[path].trains(epoch), params)

    def scales(self, params: Mapping) -> tuple[dict, dict]:
        """`params` with each leaf's factor on the learning rate, and with its factor on the weight decay."""
        rows = self._by_path()
        return (
            paths.map_tree(lambda path, _: rows[path].learning_rate_scale, params),
            paths.map_tree(lambda path, _: rows[path].weight_decay_scale, params),
        )

    def count(self, epoch: int) -> tuple[int, int]:
        """Elements that train in this epoch, and of all parameters."""
        return sum(row.size for row in self.rows if row.trains(epoch)), sum(row.size for row in self.rows)

    def count_tensors(self, epoch: int) -> tuple[int, int]:
        """Parameters that train in this epoch, and all, each counted as one."""
        return sum(row.trains(epoch) for row in self.rows), len(self.rows)

    def merge(self, params: Mapping, stats: Mapping) -> tuple[dict, dict]:
        """The initial parameters and statistics with the loaded and computed values in their places, in the initial
        dtypes."""

        def value(path: str, initial: Any) -> Any:
            return jnp.asarray(self.loaded[path], initial.dtype) if path in self.loaded else initial

        return paths.map_tree(value, params), paths.map_tree(value, stats)

    def table(self) -> str:
        """All rows and the counts, as text."""
        header = ("parameter", "shape", "source", "trains", "group", "lr ×", "decay ×")
        text = [tables.plain(header, [_cells(row) for row in self.rows])]
        for epoch in (0, *self.changes):
            trainable, total = self.count(epoch)
            tensors, all_tensors = self.count_tensors(epoch)
            text.append(
                f"from epoch {epoch}: {trainable:,} of {total:,} parameters train, "
                f"{all_tensors - tensors} of {all_tensors} tensors are frozen"
            )
        return "\n".join(text)

    def record(self) -> list[dict[str, Any]]:
        """All rows as plain values, for a JSON file."""
        return [dataclasses.asdict(row) for row in self.rows]

    def _by_path(self) -> dict[str, Row]:
        return {row.path: row for row in self.rows}


def _cells(row: Row) -> tuple[str, ...]:
    trains = {None: "frozen", 0: "yes"}.get(row.trains_from, f"from epoch {row.trains_from}")
    shape = "×".join(map(str, row.shape)) or "scalar"
    rates = f"{row.learning_rate_scale:g}", f"{row.weight_decay_scale:g}"
    return row.path, shape, row.source, trains, row.group, *rates


def plan(
    transfer: Transfer,
    model: Model,
    params: Mapping,
    stats: Mapping,
    loaded: Mapping[str, Any] | None = None,
    computed: Mapping[str, Any] | None = None,
) -> Plan:
    """Decide on every parameter.

    Args:
      transfer: the rules.
      model: the architecture, which knows torch's order and the stages.
      params: nested dict of the initial parameters, or anything else with their shapes.
      stats: the same of the BatchNorm statistics.
      loaded: path → array of the checkpoint's parameters and statistics, in our layout and names; None without one.
      computed: path → value of the parameters that follow from the training images; loaded ones come first.

    Raises:
      UserError: a pattern matches nothing; a parameter or statistic is neither in the checkpoint nor replaced, has
        another shape there, or exists only there; a randomly initialized parameter is frozen. All of the checkpoint's
        problems are named in one error.
    """
    shapes = {path: tuple(leaf.shape) for path, leaf in paths.flatten(params).items()}
    stat_shapes = {path: tuple(leaf.shape) for path, leaf in paths.flatten(stats).items()}
    order = model.torch_order(shapes)
    _check_patterns(transfer, order, stat_shapes)

    sources: dict[str, Source]
    if loaded is None:
        kept, sources = {}, dict.fromkeys([*shapes, *stat_shapes], "random")
    else:
        kept = fit(loaded, shapes | stat_shapes, transfer.replace)
        sources = {path: "loaded" if path in kept else "replaced" for path in [*shapes, *stat_shapes]}
    for path, value in (computed or {}).items():
        if path not in kept:
            kept[path], sources[path] = value, "computed"
    trains_from = _trains_from(transfer, model, order, stat_shapes)
    _check_frozen_random(transfer, order, sources, trains_from)

    stage = stages(model, order)
    rows = []
    for path in order:
        group = next((group for group in transfer.groups if paths.matches(path, [group.pattern])), None)
        scale = transfer.layer_decay ** stage[path]
        rows.append(
            Row(
                path,
                shapes[path],
                sources[path],
                trains_from[path],
                group.pattern if group else "default",
                scale * (group.learning_rate_scale if group else 1.0),
                group.weight_decay_scale if group else 1.0,
            )
        )
    return Plan(tuple(rows), {path: sources[path] for path in stat_shapes}, kept)


def _check_patterns(transfer: Transfer, order: Sequence[str], stats: Mapping[str, Any]) -> None:
    everything = [*order, *stats]
    scopes = {
        "replace": (transfer.replace, everything),
        "freeze": (transfer.freeze, order),
        "unfreeze": ([entry.pattern for entry in transfer.unfreeze], order),
        "groups": ([group.pattern for group in transfer.groups], order),
    }
    for setting, (patterns, scope) in scopes.items():
        taken: set[str] = set()
        for pattern in patterns:
            found = {path for path in scope if paths.matches(path, [pattern])}
            if not found:
                hint = paths.hint(pattern, scope)
                children = ", ".join(dict.fromkeys(f"{path.partition('.')[0]}.*" for path in scope))
                raise UserError(f"transfer.{setting}: {pattern!r} matches no parameter{hint}; there are {children}")
            if found <= taken:
                raise UserError(f"transfer.{setting}: all that {pattern!r} matches, earlier patterns match already")
            taken |= found


def stages(model: Model, ordered: Sequence[str]) -> dict[str, int]:
    """Number each path's stage: the head is 0, the backbone's last stage 1, and so on up to the image."""
    names: dict[str, int] = {}
    index = {}
    for path in ordered:
        if path.startswith(model.head_prefix):
            continue
        name = model.stage_of(path)
        index[path] = len(names) if name is None else names.setdefault(name, len(names) + 1)
    return {path: len(names) + 1 - index[path] if path in index else 0 for path in ordered}


def _trains_from(
    transfer: Transfer, model: Model, order: Sequence[str], stats: Mapping[str, Any]
) -> dict[str, int | None]:
    """Each parameter's first training epoch, or None."""
    frozen = {path for path in order if paths.matches(path, transfer.freeze)}
    if transfer.train_last is not None:
        backbone = [path for path in order if not path.startswith(model.head_prefix)]
        frozen |= set(all_but_last(backbone, transfer.train_last))
    trains_from: dict[str, int | None] = {path: None if path in frozen else 0 for path in order}
    for entry in reversed(transfer.unfreeze):  # so that the first match has the last word
        trains_from |= {path: entry.from_epoch for path in order if paths.matches(path, [entry.pattern])}
    if not transfer.batch_norm.train_affine:
        layers = {path.rpartition(".")[0] for path in stats if not path.startswith(model.head_prefix)}
        if not layers:
            raise UserError("transfer.batch_norm.train_affine: the backbone has no BatchNorm: leave it True")
        trains_from |= {path: None for path in order if path.rpartition(".")[0] in layers}
    return trains_from


def all_but_last(backbone: Sequence[str], count: int) -> list[str]:
    """List the backbone's parameters that `train_last` freezes.

    These are all but the last `count` tensors of the backbone with a plain linear layer behind it. The two tensors of
    that layer count whatever the head really is, so that a number from a program that froze the original model, before
    it replaced the head, means the same here.
    """
    total = len(backbone) + 2
    if count > total:
        raise UserError(f"transfer.train_last is {count}, but the model has {total} tensors: leave it out to train all")
    return list(backbone[: total - count])


def _check_frozen_random(
    transfer: Transfer, order: Sequence[str], sources: Mapping[str, Source], trains_from: Mapping[str, int | None]
) -> None:
    if transfer.allow_frozen_random:
        return
    wrong = [path for path in order if sources[path] in ("replaced", "random") and trains_from[path] != 0]
    if wrong:
        raise UserError(
            f"{len(wrong)} parameters would be frozen at their random initial values: load or train them, or set "
            f"transfer.allow_frozen_random:\n  " + "\n  ".join(f"{path} ({sources[path]})" for path in wrong)
        )
