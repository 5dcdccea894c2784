"""Run rows of the table: choose their epochs, train them, and record those that fail."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.display.console import Console, duration
from imgcls_jax.errors import UserError
from imgcls_jax.record import history
from imgcls_jax.report import record
from imgcls_jax.tune.ablation import repeats
from imgcls_jax.xla import runtime
from reproduction import budget, rows, shrink, write
from reproduction.rows import Row


@dataclasses.dataclass(frozen=True)
class Plan:
    """A row that is to be run."""

    row: Row
    configs: list[c.Config]
    """One a seed."""
    folders: list[Path]
    """Their work directories."""

    def in_epochs(self, epochs: int) -> "Plan":
        """The same in fewer epochs."""
        return dataclasses.replace(self, configs=[shrink.to_epochs(config, epochs) for config in self.configs])

    def epochs_left(self) -> int:
        """Epochs of all seeds together that are still to be trained."""
        return sum(
            max(config.epochs - len(history.epochs(folder)), 0)
            for config, folder in zip(self.configs, self.folders, strict=True)
            if not repeats.is_finished(config, folder)
        )

    def is_begun(self) -> bool:
        """Whether a seed saved its state, so that the row's epochs are settled."""
        return any(map(_is_begun, self.folders))


class Reproduction:
    """The rows' runs below one folder."""

    def __init__(self, root: Path, seeds: int, overrides: Sequence[str], command: str | None = None):
        """
        Args:
          root: the folder; made if missing.
          seeds: runs of each row.
          overrides: settings that change in every row, as "data.source.path=…".
          command: how the user continues, to be printed.
        """
        self._root, self._seeds, self._overrides, self._command = root, seeds, overrides, command
        self._console = Console()
        self._problems = write.problems(root)

    def run(
        self, chosen: Sequence[Row], budget_seconds: float | None = None, *, skip_missing: bool = False
    ) -> list[str]:
        """Train what can be trained of these rows, and write the results after every run.

        A row whose data is missing, or that fails, is recorded with the sentence that says why.

        Args:
          chosen: the rows.
          budget_seconds: time for the training of all rows; None: each takes its config's epochs.
          skip_missing: a row whose data is not here is no failure.

        Returns:
          The ids of the rows that are not finished.
        """
        runtime.setup()
        for row in chosen:
            self._problems.pop(row.id, None)
        skipped: list[str] = []
        plans = []
        for row in chosen:
            if row.spec is None:
                continue
            try:
                config = files.load(row.spec, self._overrides)
            except UserError as error:
                self._record(row, str(error))
                continue
            if (problem := config.data.source.missing()) is None:
                plans.append(self._plan(row, config))
            else:
                self._record(row, problem, "left out" if skip_missing else "not finished")
                skipped += [row.id] if skip_missing else []
        if budget_seconds is not None:
            plans = self._within(plans, budget_seconds)
        for plan in plans:
            for config, folder in zip(plan.configs, plan.folders, strict=True):
                self._console.line(f"== {plan.row.id}: {plan.row.what}, seed {config.seed} ==")
                problem = _unmet(plan.row, config)
                if problem is None:
                    problem = repeats.train(config, folder, command=self._command).problem
                if problem is not None:
                    self._record(plan.row, f"Seed {config.seed}: {problem}")
                write.write(self._root, self._problems)
            write.row_curves(self._root, plan.row)
        for letter in dict.fromkeys(plan.row.id[0] for plan in plans):
            write.report_curves(self._root, letter)
        write.write(self._root, self._problems)
        return [row.id for row in chosen if row.id in self._problems and row.id not in skipped]

    def _plan(self, row: Row, config: c.Config) -> Plan:
        """Lay out the row's runs, one per seed."""
        configs = repeats.seeds(config, self._seeds)
        folders = [repeats.folder(self._root, row.id, seeded) for seeded in configs]
        if row.starts_from:
            configs = list(map(_starting_from, configs, self._sources(row.starts_from)))
        plan = Plan(row, configs, folders)
        for folder in filter(_is_begun, folders):  # in the epochs that an earlier budget gave
            return plan.in_epochs(min(files.restore(folder / "config.json").epochs, config.epochs))
        return plan

    def _sources(self, earlier: str) -> list[Path]:
        """Work directories of the row from which another one starts, seed by seed."""
        row = next(row for row in rows.ROWS if row.id == earlier)
        assert row.spec is not None, "only a row that trains gives parameters"
        configs = repeats.seeds(files.load(row.spec), self._seeds)
        return [repeats.folder(self._root, earlier, config) for config in configs]

    def _within(self, plans: Sequence[Plan], seconds: float) -> list[Plan]:
        """The plans shrunk to the budget; those of which not even an epoch fits are recorded and left out."""
        finished = [plan for plan in plans if all(map(repeats.is_finished, plan.configs, plan.folders))]
        epoch: dict[str, float] = {}  # seconds an epoch, by row
        for plan in plans:
            if plan in finished:
                continue
            self._console.line(f"{plan.row.id}: timing a few steps …")
            try:
                epoch[plan.row.id] = budget.seconds_per_epoch(plan.configs[0])
            except UserError as error:
                self._record(plan.row, str(error))
        timed = [plan for plan in plans if plan.row.id in epoch]
        kept = finished + [plan for plan in timed if plan.is_begun()]
        left = seconds - sum(plan.epochs_left() * epoch[plan.row.id] for plan in timed if plan.is_begun())
        fresh = [plan for plan in timed if not plan.is_begun()]
        costs = [plan.epochs_left() * epoch[plan.row.id] for plan in fresh]
        least = [self._seeds * epoch[plan.row.id] for plan in fresh]
        for plan, share in zip(fresh, budget.allot(costs, least, max(left, 0.0)), strict=True):
            one, full = epoch[plan.row.id], plan.configs[0].epochs
            epochs = min(int(share / self._seeds / one + 1e-6), full)  # no epoch less for a rounding error
            self._console.line(f"{plan.row.id}: an epoch takes about {duration(one)}; {epochs} of {full} fit")
            if epochs:
                kept.append(plan.in_epochs(epochs))
            else:
                self._record(plan.row, f"The budget leaves no time for an epoch of each seed, {duration(one)} each")

        return sorted(kept, key=lambda plan: rows.ROWS.index(plan.row))

    def _record(self, row: Row, sentence: str, state: str = "not finished") -> None:
        self._console.line(f"{row.id} is {state}: {sentence}")
        self._problems.setdefault(row.id, []).append(sentence.rstrip(".") + ".")


def _unmet(row: Row, config: c.Config) -> str | None:
    """Why the row cannot start yet: the run that it starts from is not finished."""
    source = config.transfer.init_from
    if not row.starts_from or (source and record.result(Path(source)) is not None):
        return None
    return f"it starts from {row.starts_from}, which is not finished in {source}: run that row first"


def _starting_from(config: c.Config, source: Path) -> c.Config:
    return dataclasses.replace(config, transfer=dataclasses.replace(config.transfer, init_from=str(source)))


def _is_begun(folder: Path) -> bool:
    return any((folder / "checkpoints").glob("[0-9]*"))
