"""Write a run's figures to MLflow, whose own environment variables say where that is."""

import contextlib
import re
import time
from pathlib import Path
from typing import Any

from PIL import Image

from imgcls_jax.errors import UserError
from imgcls_jax.record.documents import Result
from imgcls_jax.training.callbacks import identity
from imgcls_jax.training.callbacks.logger import AnyRecord, Logger, figures, final

_LONGEST_NAME, _LONGEST_VALUE, _AT_ONCE = 250, 500, 100  # limits of MLflow on parameters


def check() -> None:
    """Raise UserError where MLflow is not installed."""
    try:
        import mlflow  # noqa: F401
    except ImportError:
        raise UserError(
            "logging.mlflow_experiment is set but MLflow is not installed: pip install 'imgcls_jax[mlflow]'"
        ) from None


class MLflow(Logger):
    """A run of MLflow; it goes on in the same one after a restart. Figures are over the steps.

    It uses a client of its own, so that a caller's active run of MLflow is left alone.
    """

    name, is_service = "MLflow", True

    def __init__(self, experiment: str, name: str, tree: dict[str, Any], workdir: Path):
        """
        Args:
          experiment: its name; made where there is none.
          name: of the run.
          tree: the config, which becomes the run's parameters and its file config.json.
          workdir: where the run's id is kept.
        """
        check()
        from mlflow import MlflowClient

        self._client = MlflowClient()
        self._status = "KILLED"  # unless it finishes
        known = identity.known(workdir / "mlflow_id")
        self._run = known if known and self._goes_on(known) else self._new(experiment, name, tree, workdir)

    def write(self, record: AnyRecord) -> None:
        self._log(figures(record), record["step"])

    def finish(self, result: Result) -> None:
        self._log(final(result), result["history"][-1]["step"])
        self._status = "FINISHED"

    def picture(self, name: str, image: Image.Image, *, epoch: int, step: int) -> None:
        self._client.log_image(self._run, image, artifact_file=f"{name}.png")

    def close(self) -> None:
        self._client.set_terminated(self._run, status=self._status)

    def _goes_on(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        with contextlib.suppress(MlflowException):  # deleted, or kept elsewhere
            if self._client.get_run(run).info.lifecycle_stage == "active":
                self._client.set_terminated(run, status="RUNNING")
                return True
        return False

    def _new(self, experiment: str, name: str, tree: dict[str, Any], workdir: Path) -> str:
        from mlflow.entities import Param

        there = self._client.get_experiment_by_name(experiment)
        place = there.experiment_id if there else self._client.create_experiment(experiment)
        run = self._client.create_run(place, run_name=name).info.run_id
        parameters = [
            Param(_allowed(key)[:_LONGEST_NAME], str(value)[:_LONGEST_VALUE]) for key, value in _leaves(tree, "")
        ]
        for start in range(0, len(parameters), _AT_ONCE):
            self._client.log_batch(run, params=parameters[start : start + _AT_ONCE])
        self._client.log_dict(run, tree, "config.json")
        return identity.keep(workdir / "mlflow_id", run)

    def _log(self, values: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(_allowed(name), value, now, step) for name, value in values.items()]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(self._run, metrics=metrics[start : start + 1000])


def _allowed(name: str) -> str:
    """Replace characters that MLflow refuses in names."""
    return re.sub(r"[^\w./ -]", "_", name)


def _leaves(tree: Any, prefix: str) -> list[tuple[str, Any]]:
    """Return the settings of a config's tree, by names such as "optim.optimizer.momentum"."""
    if isinstance(tree, dict):
        items = list(tree.items())
    elif isinstance(tree, list) and any(isinstance(item, dict | list) for item in tree):
        items = list(enumerate(tree))
    else:
        return [(prefix, tree)]
    return [leaf for key, value in items for leaf in _leaves(value, f"{prefix}.{key}" if prefix else str(key))]
