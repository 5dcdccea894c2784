"""Train every combination of factors under every seed, and write what each factor contributes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import tasks
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training.validate import validate
from imgcls_jax.tune.ablation import factors as marked
from imgcls_jax.tune.ablation import repeats, write
from imgcls_jax.tune.ablation.factors import Cell, Design, Factor


def ablate(
    config: c.Config,
    factors: Mapping[str, Factor],
    workdir: Path,
    *,
    design: Design = "factorial",
    seeds: int = 1,
    arrays: Mapping[str, np.ndarray] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Train every cell of the design under every seed and write the tables.

    Args:
      config: the baseline, with every factor off.
      factors: name → function that switches the factor on.
      workdir: of the whole ablation.
      design: see `factors.cells`.
      seeds: how many, from `config.seed` on.
      arrays: the images, where `config.data.source` is `Arrays()` without a path.
      command: what the user typed, to be shown as the way to continue.

    Returns:
      What is written to ablation.json.

    Raises:
      UserError: a factor is wrong, a cell's config is impossible, or no run of the baseline succeeded.
    """
    tasks.need_classes(config.loss.task, "imgcls ablate")
    configs = {cell: marked.apply(config, factors, cell) for cell in marked.cells(factors, design)}
    devices = meshes.make(config.mesh).size
    for cell_config in configs.values():
        validate(cell_config, devices)

    outcomes: dict[Cell, dict[int, repeats.Outcome]] = {cell: {} for cell in configs}
    for i in range(seeds):  # seed by seed, so that an interrupted ablation has whole replicates
        for cell, cell_config in configs.items():
            seeded = repeats.seeds(cell_config, seeds)[i]
            outcomes[cell][seeded.seed] = repeats.train(
                seeded,
                repeats.folder(workdir, marked.name(cell), seeded),
                arrays=arrays,
                command=command,
            )
    baseline = outcomes[()].values()
    if all(outcome.result is None for outcome in baseline):
        raise UserError(
            f"no run of the baseline succeeded, so there is nothing to compare with: {next(iter(baseline)).problem}"
        )
    return write.write(workdir, config.name, design, list(factors), outcomes)
