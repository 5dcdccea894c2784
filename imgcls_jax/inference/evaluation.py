"""Evaluate a trained model in one call."""

from pathlib import Path

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.inference.classifier import Classifier, LookAt
from imgcls_jax.record.documents import Evaluation


def evaluate(
    source: str | Path | c.Config,
    config: c.Config | None = None,
    *,
    data: c.Data | c.Source | None = None,
    views: LookAt | None = None,
) -> Evaluation:
    """Evaluate a trained model on its validation and test splits, exactly as training would.

    >>> import imgcls_jax as ic
    >>> ic.evaluate(run)["test"]["count"]
    27

    Args:
      source: the work directory of a run, the name of published weights, a file of weights (with `config`), or a config
        whose `transfer.init_from` is one of these.
      config: the experiment that the weights belong to; see `Classifier.load`.
      data: other data than the run's, or only another source; see `Classifier.evaluate`.
      views: how the images of both splits are seen; None: what training does.

    Returns:
      {"validation": {"loss", "top1", "top5", "count", …} or None, "test": the same or None, "views": how each split was
      seen}; see `Classifier.evaluate`.

    Raises:
      UserError: the weights or the data are not there, or do not fit.
    """
    if isinstance(source, c.Config):
        if source.transfer.init_from is None:
            raise UserError("transfer.init_from is not set: random weights predict nothing")
        config, source = source, source.transfer.init_from
    return Classifier.load(source, config, views=views).evaluate(data, views=views)
