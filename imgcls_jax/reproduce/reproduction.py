"""Which rows are run, in how many epochs, and what becomes of those that fail."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax import runtime
from imgcls_jax.ablate import repeats
from imgcls_jax.config import files
from imgcls_jax.console import Console, duration
from imgcls_jax.errors import UserError
from imgcls_jax.report import record
from imgcls_jax.reproduce import at_hand, budget, rows, shrink, write
from imgcls_jax.reproduce.rows import Row


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
            max(config.epochs - len(record.history(folder)), 0)
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

    def run(self, chosen: Sequence[Row], budget_seconds: float | None = None) -> None:
        """Train what can be trained of these rows, writing the results after every run.

        A row whose data is missing, or that fails, is recorded with the sentence that says why.
        """
        setup = runtime.setup()
        for row in chosen:
            self._problems.pop(row.id, None)
        plans = [plan for row in chosen if (plan := self._plan(row))]
        if budget_seconds is not None:
            plans = self._within(plans, budget_seconds)
        for plan in plans:
            for config, folder in zip(plan.configs, plan.folders, strict=True):
                self._console.line(f"== {plan.row.id}: {plan.row.what}, seed {config.seed} ==")
                problem = _unmet(plan.row, config)
                if problem is None:
                    problem = repeats.train(config, folder, runtime=setup, command=self._command).problem
                if problem is not None:
                    self._record(plan.row, f"Seed {config.seed}: {problem}")
                write.write(self._root, self._problems)
            write.row_curves(self._root, plan.row)
        for letter in dict.fromkeys(plan.row.id[0] for plan in plans):
            write.report_curves(self._root, letter)
        write.write(self._root, self._problems)

    def _plan(self, row: Row) -> Plan | None:
        """The row's runs; None, and a problem recorded, where it cannot be run."""
        if row.spec is None:
            return None
        try:
            config = files.load(row.spec, self._overrides)
            if (problem := at_hand.data_problem(config.data.source)) is not None:
                raise UserError(problem)
        except UserError as error:
            self._record(row, str(error))
            return None
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

    def _record(self, row: Row, sentence: str) -> None:
        self._console.line(f"{row.id} is not finished: {sentence}")
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
