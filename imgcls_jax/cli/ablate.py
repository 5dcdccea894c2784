"""Train a config with its factors on and off, and tell what each brings.

The config file marks the factors (docs/ablation.md). Every combination of the design trains with the same K seeds and
the same held-out split, in DIR/CELL/seed_S. Writes DIR/ablation.md, .tex, .json and .png: mean ± standard deviation of
each cell, paired differences to the baseline with 95 % confidence intervals, and the main effects of a factorial. The
same command continues what was interrupted; finished runs are not trained again.

Example:
  imgcls ablate --config configs/imagenette_cnn.py --seeds 3
"""

from collections.abc import Sequence
from pathlib import Path

from imgcls_jax.cli import flags


def main(arguments: Sequence[str] | None = None) -> None:
    parser = flags.parser(__doc__)
    parser.add_argument(
        "--design",
        choices=("factorial", "one_at_a_time"),
        default="factorial",
        help="all combinations (the default), or the baseline, each factor alone and all together",
    )
    parser.add_argument("--seeds", type=flags.whole(1), default=1, help="runs of each combination (default: 1)")
    parser.add_argument("--workdir", type=Path, help="folder of the ablation; default: runs/ablation_NAME")
    options = parser.parse_args(arguments)
    config = flags.config_of(options)

    from imgcls_jax.display.console import Console
    from imgcls_jax.tune.ablation import factors as marked
    from imgcls_jax.tune.ablation.ablate import ablate
    from imgcls_jax.xla import runtime

    factors = marked.of(options.config)
    runtime.setup()
    workdir = options.workdir or Path("runs") / f"ablation_{config.name}"
    ablate(
        config,
        factors,
        workdir,
        design=options.design,
        seeds=options.seeds,
        command=flags.typed(arguments),
    )
    Console().line((workdir / "ablation.md").read_text())
