"""The end of a run: what its best epoch predicts is kept and drawn."""

from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import thresholds
from imgcls_jax.evaluation.predictions import Predictions
from imgcls_jax.models.network import Tree
from imgcls_jax.record.documents import Figures
from imgcls_jax.report import best_epoch, task_files
from imgcls_jax.training.run import Run


def test(run: Run, variables: tuple[Tree, Tree]) -> Figures | None:
    """Evaluate the test images and return their figures; give the run what is predicted of both splits, and the
    thresholds, where the config keeps them.

    Args:
      run: that has been trained.
      variables: (all parameters, statistics) of the best epoch.
    """
    experiment = run.experiment
    if not experiment.config.logging.predictions:
        return experiment.test(variables) if experiment.test else None
    figures: dict[str, Figures] = {}
    made: dict[str, Predictions] = {}
    for name, evaluation in (("validation", experiment.validate), ("test", experiment.test)):
        if evaluation:
            figures[name], made[name] = evaluation.predict(variables, experiment.dataset.class_names)
    run.predictions, run.thresholds = made, thresholds.of(made)
    if run.thresholds and "test" in made:
        figures["test"] |= thresholds.figures(made["test"], run.thresholds)
    return figures.get("test")


def write(run: Run) -> None:
    """Keep the predictions of a finished run, and draw those of the validation images, or else of the test images.

    What cannot be written is told: the run and its result stay as they are.
    """
    try:
        if run.thresholds:
            thresholds.save(run.workdir, run.predictions["validation"], run.thresholds)
        for made in run.predictions.values():
            best_epoch.keep(run.workdir, made)
        if run.predictions:
            name, made = next(iter(run.predictions.items()))
            split = getattr(run.experiment.dataset, name)
            if made.task != "classes":
                if made.is_finite:
                    task_files.write(run.workdir, made, run.thresholds, title=run.config.name)
                return
            best_epoch.write(run.workdir, made, split, title=run.config.name)
    except UserError as error:
        run.tell(f"note: the pictures of the best epoch are not complete: {error}")
