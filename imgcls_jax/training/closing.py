"""The end of a run: what its best epoch predicts is kept and drawn."""

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import thresholds
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.models.network import Tree
from imgcls_jax.record.documents import Figures
from imgcls_jax.report import best_epoch, task_files
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.run import Run


def test(experiment: Experiment, variables: tuple[Tree, Tree]) -> tuple[Figures | None, dict[str, Predictions]]:
    """Evaluate the test images; return their figures, and the predictions of both splits where the config keeps them.

    Args:
      experiment: with the data.
      variables: (all parameters, statistics) of the best epoch.
    """
    if not experiment.config.logging.predictions:
        return experiment.test(variables) if experiment.test else None, {}
    figures, made = {}, {}
    for name, evaluation in (("validation", experiment.validate), ("test", experiment.test)):
        if evaluation:
            figures[name], made[name] = evaluation.predict(variables, experiment.dataset.class_names)
    tuned = thresholds.of(made)
    if tuned and "test" in made:
        figures["test"] |= thresholds.figures(made["test"], tuned)
    return figures.get("test"), made


def write(run: Run) -> None:
    """Keep the predictions of a finished run, and draw those of the validation images, or else of the test images.

    What cannot be written is told: the run and its result stay as they are.
    """
    try:
        tuned = thresholds.of(run.predictions)
        if tuned:
            thresholds.save(run.workdir, run.predictions["validation"], tuned)
        for made in run.predictions.values():
            best_epoch.keep(run.workdir, made)
        if run.predictions:
            name, made = next(iter(run.predictions.items()))
            split = getattr(run.experiment.dataset, name)
            if made.task != "classes":
                if made.is_finite:
                    task_files.write(run.workdir, made, tuned, title=run.config.name)
                return
            best_epoch.write(run.workdir, made, split, title=run.config.name)
    except UserError as error:
        run.tell(f"note: the pictures of the best epoch are not complete: {error}")
