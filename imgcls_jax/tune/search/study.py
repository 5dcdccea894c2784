"""The study that all workers of a search share: which trials there are, and who trains which.

A trial belongs to the process that holds the operating system's lock on DIR/.trial-NNN.lock, which the death of the
process releases, whatever it dies of. So a trial that is under way and not locked has lost its process, and the next
worker goes on with it, from its newest checkpoint. That is why all workers of a search share its folder, also where the
study itself is in a database.
"""

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from imgcls_jax import config as c
from imgcls_jax.config import io as files
from imgcls_jax.disk import outputs
from imgcls_jax.errors import UserError, short
from imgcls_jax.record.json_files import read_json, write_json
from imgcls_jax.tune.search.spaces import Dimension, Value

try:
    import optuna
    import sqlalchemy
    from optuna.storages import BaseStorage, JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    from optuna.trial import FrozenTrial, Trial, TrialState
except ImportError:
    raise UserError("a search needs Optuna: pip install 'imgcls_jax[search]'") from None

Sampler = Literal["tpe", "random"]
Pruner = Literal["median", "hyperband", "none"]
_SCHEMA = 1
_STARTS = 2  # of a trial: a failed or killed one is tried once more
_JOURNAL = b'{"op_code"'  # how a journal begins
# Names of what Optuna stores with a trial.
STARTS, PROBLEM = "starts", "problem"


class Claim:
    """A trial that this process trains; a context manager that gives it back."""

    def __init__(self, trial: Trial, values: dict[Dimension, Value], folder: Path, lock: FileLock):
        self.trial, self.values, self.folder = trial, values, folder
        self._lock = lock

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *error: Any) -> None:
        self._lock.release()

    def complete(self, value: float) -> None:
        """Record the result of a trial."""
        self.trial.study.tell(self.trial, value)

    def prune(self, problem: str | None = None) -> None:
        """Record that a trial was not worth its last epoch."""
        if problem:
            self.trial.set_user_attr(PROBLEM, problem)
        self.trial.study.tell(self.trial, state=TrialState.PRUNED)

    def fail(self, problem: str) -> bool:
        """Record a failure, and return whether it is the last one; else the trial is there to be claimed again."""
        self.trial.set_user_attr(PROBLEM, problem)
        is_last = self.trial.user_attrs[STARTS] >= _STARTS
        if is_last:
            self.trial.study.tell(self.trial, state=TrialState.FAIL)
        return is_last

    def interrupt(self) -> None:
        """Record that the trial was saved in order to be continued, which is no failure."""
        self.trial.set_user_attr(STARTS, self.trial.user_attrs[STARTS] - 1)


@dataclasses.dataclass
class SharedStudy:
    """A study in a storage, and the folder of its trials."""

    study: optuna.Study
    folder: Path
    space: Sequence[Dimension]
    sampler: Sampler
    seed: int

    def trials(self) -> list[FrozenTrial]:
        """Return all trials as they are now."""
        return self.study.get_trials(deepcopy=False)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other workers of the search waiting within it."""
        with locked(self.folder):
            yield

    def claim(self, total: int) -> Claim | None:
        """Take a trial that has lost its process, or else begin one; None where all `total` are begun or finished."""
        with self.alone():
            trials = self.trials()
            # A seed for each trial, so that no two workers draw the same, and one worker alone draws the same again.
            self.study.sampler = _sampler(self.sampler, self.seed, len(trials))
            for lost in trials:
                lock = None if lost.state.is_finished() else _try(self._lock_file(lost.number))
                if lock is None:
                    continue
                if lost.user_attrs.get(STARTS, 0) >= _STARTS:
                    trial = Trial(self.study, lost._trial_id)
                    trial.set_user_attr(PROBLEM, lost.user_attrs.get(PROBLEM, "its process was killed, twice"))
                    self.study.tell(trial, state=TrialState.FAIL)
                    lock.release()
                    continue
                return self._claimed(Trial(self.study, lost._trial_id), lock)
            if len(trials) >= total:
                return None
            trial = self.study.ask()
            lock = _try(self._lock_file(trial.number))
            assert lock is not None, "nobody else knows of a trial that has just begun"
            return self._claimed(trial, lock)

    def _claimed(self, trial: Trial, lock: FileLock) -> Claim:
        values = {dimension: dimension.suggest(trial) for dimension in self.space}
        trial.set_user_attr(STARTS, trial.user_attrs.get(STARTS, 0) + 1)
        return Claim(trial, values, self.folder / f"trial-{trial.number:03d}", lock)

    def _lock_file(self, number: int) -> Path:
        return self.folder / f".trial-{number:03d}.lock"


def open_study(
    folder: Path,
    config: c.Config,
    space: Sequence[Dimension],
    *,
    maximize: bool,
    storage: str | None = None,
    sampler: Sampler = "tpe",
    pruner: Pruner = "median",
    seed: int = 0,
) -> SharedStudy:
    """Begin the study of a search, or join the one that is there.

    Args:
      folder: of the search; search.json in it says what is searched.
      config: what every trial begins with; `best.metric` is what is optimized.
      space: what varies.
      maximize: whether a higher metric is better.
      storage: a journal file, or a database as postgresql://USER@HOST/NAME; None: study.journal in the folder.
      sampler, pruner: see docs/tuning.md.
      seed: of the sampler.

    Raises:
      UserError: the folder holds another search or something else, or the storage cannot be used.
    """
    outputs.make_folder(folder)
    storage = storage or str(folder / "study.journal")
    url = _url(storage)
    shown = url.render_as_string(hide_password=True) if url else str(Path(storage).absolute())
    document: dict[str, Any] = {
        "schema": _SCHEMA,
        "study": f"{config.name}-{secrets.token_hex(4)}" if url else config.name,
        "storage": shown,
        "space": sorted(map(str, space)),
        "config": files.document(config),
    }
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with locked(folder):
        path = folder / "search.json"
        if path.exists():
            begun = read_json(path)
            _refuse_other(folder, begun, document, config)
            document = begun
        elif found := sorted({entry.name for entry in folder.glob("[!.]*")} - {Path(storage).name}):
            raise UserError(f"{folder} holds no search but {found[0]}: give an empty or a new --workdir")
        study = _create(document["study"], storage, url, shown, maximize=maximize, pruner=_pruner(pruner, config))
        if not path.exists():
            if study.get_trials(deepcopy=False):
                raise UserError(
                    f"{shown} holds the trials of a search in another --workdir: give that one, or another --storage"
                )
            write_json(path, document)
    return SharedStudy(study, folder, tuple(space), sampler, seed)


def _refuse_other(folder: Path, begun: Any, document: dict[str, Any], config: c.Config) -> None:
    if not isinstance(begun, dict) or begun.get("schema") != _SCHEMA or set(begun) != set(document):
        raise UserError(f"{folder / 'search.json'} is of another version or damaged: give another --workdir")
    if begun["space"] != document["space"]:
        raise UserError(
            f"{folder} holds a search over {', '.join(begun['space'])}: give the same --space, or another --workdir"
        )
    if begun["storage"] != document["storage"]:
        raise UserError(f"the study of {folder} is in {begun['storage']}: give it as --storage")
    if differences := files.difference(files.from_document(begun["config"], str(folder / "search.json")), config):
        raise UserError(
            f"{folder} holds a search from another config: give another --workdir, or undo:"
            + "".join(f"\n  {line}" for line in differences)
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a search's folder; wait until the others have released it."""
    with _taken(FileLock(folder / ".search.lock")):
        yield


@contextlib.contextmanager
def _taken(lock: FileLock) -> Iterator[None]:
    try:
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        folder = Path(lock.lock_file).parent
        raise UserError(
            f"{folder} cannot be locked ({getattr(error, 'strerror', None) or error}), so that workers could not tell "
            "whose trial is whose: give a --workdir on a file system with locks"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _try(path: Path) -> FileLock | None:
    """Take a lock; None where a living process holds it."""
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def _sampler(name: Sampler, seed: int, number: int) -> optuna.samplers.BaseSampler:
    drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    if name == "random":
        return optuna.samplers.RandomSampler(seed=drawn)
    return optuna.samplers.TPESampler(seed=drawn)


def _pruner(name: Pruner, config: c.Config) -> optuna.pruners.BasePruner:
    if name == "none":
        return optuna.pruners.NopPruner()
    if name == "hyperband":
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=config.epochs)
    return optuna.pruners.MedianPruner(n_startup_trials=5)


def _url(storage: str) -> sqlalchemy.URL | None:
    """The address of a database; None for a file's name."""
    if "://" not in storage:
        return None
    try:
        url = sqlalchemy.make_url(storage)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        url = None
    if url is None or not url.drivername.startswith("postgresql") or not url.database:
        raise UserError(
            f"--storage {short(storage.partition('://')[0])}://… is not of a kind that can be used: give a file, or "
            "postgresql://USER@HOST/DATABASE"
        )
    return url.set(drivername="postgresql+psycopg")


def _create(
    name: str,
    storage: str,
    url: sqlalchemy.URL | None,
    shown: str,
    *,
    maximize: bool,
    pruner: optuna.pruners.BasePruner,
) -> optuna.Study:
    try:
        opened: BaseStorage
        if url is None:
            outputs.make_folder(Path(storage).parent)
            opened = JournalStorage(JournalFileBackend(storage, lock_obj=_JournalLock(storage)))
        else:
            opened = RDBStorage(url.render_as_string(hide_password=False))
        return optuna.create_study(
            storage=opened,
            study_name=name,
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
            pruner=pruner,
        )
    except ImportError:
        raise UserError("a study in PostgreSQL needs psycopg: pip install 'imgcls_jax[search]'") from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise UserError(f"--storage {shown} cannot be used: {reason[:200]}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--storage {shown} cannot be used, or is no journal of Optuna: {error}") from error


class _JournalLock(JournalFileOpenLock):
    """The operating system's lock on a journal, which a killed process releases at once; half a line that it has left
    is taken away."""

    def __init__(self, journal: str):
        self._journal = Path(journal)
        super().__init__(journal)
        self._lock = FileLock(self._journal.with_name(f".{self._journal.name}.lock"))

    def acquire(self) -> bool:
        self._lock.acquire()
        with open(self._journal, "rb+") as file:
            start = file.read(len(_JOURNAL))
            if start != _JOURNAL[: len(start)]:
                self._lock.release()
                raise ValueError("it begins otherwise")
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 1, 0))
            if size and file.read() != b"\n":
                file.seek(0)
                file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self._lock.release()
