"""What tells the harness of a run of imgcls_jax; no user would write this."""

import jax
from reporting import tell

import imgcls_jax as ic
from imgcls_jax import config as c


class _Reporter(ic.Callback):
    def __init__(self):
        self._first = True

    def on_start(self, run):
        tell(parameters=sum(leaf.size for leaf in jax.tree.leaves(run.state.params)))

    def on_metrics(self, run, metrics):
        if self._first:
            tell(first_step=True)
            self._first = False

    def on_epoch(self, run, record):
        tell(epoch=run.progress.epoch + 1, accuracy=record["validation"]["top1"])


class Report(c.Callback):
    """Print the events of the run."""

    def build(self):
        return _Reporter()
