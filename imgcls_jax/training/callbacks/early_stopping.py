"""Stop a run whose validation metric no longer improves."""

from imgcls_jax.record.documents import EpochRecord
from imgcls_jax.training.best import out_of_patience
from imgcls_jax.training.callbacks.base import Callback
from imgcls_jax.training.run import Run


class EarlyStopping(Callback):
    """Stops as `Config.early_stopping` says, judged from the whole history: it needs no state of its own."""

    def on_epoch(self, run: Run, record: EpochRecord) -> None:
        if len(run.progress.history) < run.config.epochs and out_of_patience(run.progress.history, run.config):
            run.stop("the validation metric has not improved for long enough: stopping early")
