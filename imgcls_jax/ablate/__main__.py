"""Train a config with its factors on and off, and tell what each brings.

    python -m imgcls_jax.ablate --config FILE.py[:VARIANT] [--design DESIGN] [--seeds K] [--workdir DIR]

The config file marks the factors (docs/ablation.md). Every combination of the design trains with the same K seeds and
the same held-out split, in DIR/CELL/seed_S. Writes DIR/ablation.md, .tex, .json and .png: mean ± standard deviation of
each cell, paired differences to the baseline with 95 % confidence intervals, and the main effects of a factorial. The
same command continues what was interrupted; finished runs are not trained again.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls_jax import config as c
from imgcls_jax import flags, runtime
from imgcls_jax import mesh as meshes
from imgcls_jax.ablate import factors as marked
from imgcls_jax.ablate import repeats, write
from imgcls_jax.ablate.factors import Cell, Design, Factor
from imgcls_jax.console import Console
from imgcls_jax.errors import UserError
from imgcls_jax.runtime import Runtime
from imgcls_jax.validate import validate


def ablate(
    config: c.Config,
    factors: Mapping[str, Factor],
    workdir: Path,
    *,
    design: Design = "factorial",
    seeds: int = 1,
    arrays: Mapping[str, np.ndarray] | None = None,
    runtime: Runtime | None = None,
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
      runtime, command: see `train_and_evaluate`.

    Returns:
      What is written to ablation.json.

    Raises:
      UserError: a factor is wrong, a cell's config is impossible, or no run of the baseline succeeded.
    """
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
                runtime=runtime,
                command=command,
            )
    baseline = outcomes[()].values()
    if all(outcome.result is None for outcome in baseline):
        raise UserError(
            f"no run of the baseline succeeded, so there is nothing to compare with: {next(iter(baseline)).problem}"
        )
    return write.write(workdir, config.name, design, list(factors), outcomes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument(
        "--design",
        choices=("factorial", "one_at_a_time"),
        default="factorial",
        help="all combinations (the default), or the baseline, each factor alone and all together",
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each cell, with seeds in a row (default: 1)")
    parser.add_argument("--workdir", type=Path, help="folder of the ablation; default: runs/ablation_NAME")
    options, config = flags.parse(parser, arguments)
    if options.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {options.seeds}")
    factors = marked.of(options.config)
    setup = runtime.setup()
    workdir = options.workdir or Path("runs") / f"ablation_{config.name}"
    ablate(
        config,
        factors,
        workdir,
        design=options.design,
        seeds=options.seeds,
        runtime=setup,
        command=shlex.join(["python", "-m", "imgcls_jax.ablate", *(sys.argv[1:] if arguments is None else arguments)]),
    )
    Console().line((workdir / "ablation.md").read_text())


if __name__ == "__main__":
    flags.run(main)
