"""Find out what the doctor's checks need to know: of an experiment that is about to be trained, or of one by itself."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax

from imgcls_jax import data
from imgcls_jax.doctor import examination
from imgcls_jax.doctor.findings import Finding, Subject
from imgcls_jax.errors import UserError
from imgcls_jax.parallel import mesh as meshes
from imgcls_jax.training import evaluators, feed
from imgcls_jax.training.experiment import Experiment
from imgcls_jax.training.memory import memory_limit, step_memory
from imgcls_jax.training.validate import validate, validate_data

_TIMED = 1.0  # seconds for which steps are timed, at least


def before_training(experiment: Experiment, workdir: Path) -> None:
    """Make the quick checks, and add what they find to the experiment's notes.

    Raises:
      UserError: a finding is an error.
    """
    experiment.notes += examination.before_training(_of_experiment(experiment, workdir))


def before_first_step(experiment: Experiment, step: jax.stages.Compiled) -> list[str]:
    """Compare the memory of the compiled step with the device's; return a sentence where it is tight."""
    subject = Subject(experiment.config.data)
    subject = _with_memory(subject, step_memory(experiment, step), memory_limit(experiment.mesh))
    return [examination.sentence(finding) for finding in examination.of_memory(subject)]


def checkup(
    subject: Subject, *, range_test: Callable[[], float | None] | None = None
) -> tuple[list[Finding], list[str]]:
    """Make every check, or the quick ones, of data or of an experiment.

    Args:
      subject: settings, and the config if there is one.
      range_test: gives the learning rate that a range test recommends; called where the experiment can be trained.

    Returns:
      The findings, errors first; and the names of the checks that were made. What is refused before training is a
      finding too.
    """
    refused: list[Finding] = []
    made = ["settings", "data"] if subject.config else ["data"]
    before: list[Finding] = []
    if not subject.quick:
        before, names = examination.before_loading(_listed(subject))
        made += names
    subject = _find_out(subject, refused)
    if range_test is not None and not refused and (rate := range_test()) is not None:
        subject = dataclasses.replace(subject, recommended_rate=rate)
    findings, names = examination.examine_all(subject)
    found = [*refused, *before, *findings]
    return sorted(found, key=lambda finding: finding.level != "error"), made + names


def _listed(subject: Subject) -> Subject:
    """The subject with the number of its images, before any is decoded."""
    try:
        source = subject.settings.source.open(None, subject.on_progress)
    except UserError:
        return subject  # it is said when the data are loaded
    images = sum(len(part.labels) for part in (source.train, source.validation, source.test) if part is not None)
    return dataclasses.replace(subject, images_to_cache=images)


def _find_out(subject: Subject, refused: list[Finding]) -> Subject:
    """The subject with all that can be found out; what is refused on the way is added to `refused`."""
    config, mesh = subject.config, None
    if config is not None:
        try:
            mesh = meshes.make(config.mesh)
            validate(config, mesh.size)
        except UserError as error:
            refused.append(examination.refusal("settings", error))
    try:
        dataset = data.load(subject.settings, on_progress=subject.on_progress)
        if config is not None:
            validate_data(config, dataset)
    except UserError as error:
        refused.append(examination.refusal("data", error))
        return subject if mesh is None else dataclasses.replace(subject, mesh=mesh)
    subject = dataclasses.replace(subject, dataset=dataset)
    if config is None or mesh is None or refused:
        return subject
    try:
        experiment = Experiment(config, dataset, mesh, evaluated=evaluators.load_splits(config, dataset))
    except UserError as error:
        refused.append(examination.refusal("parameters", error))
        return subject
    found = _of_experiment(experiment, subject.workdir or Path("runs") / config.name)
    found = dataclasses.replace(found, quick=subject.quick, on_progress=subject.on_progress)
    return found if subject.quick else _with_step(found, experiment)


def _of_experiment(experiment: Experiment, workdir: Path) -> Subject:
    state = jax.tree.leaves(experiment.abstract_state(0))
    return Subject(
        experiment.config.data,
        experiment.config,
        experiment.dataset,
        experiment.mesh,
        experiment.plan,
        workdir,
        state_bytes=sum(leaf.size * leaf.dtype.itemsize for leaf in state),
    )


def _with_step(subject: Subject, experiment: Experiment) -> Subject:
    """The subject with the memory of the compiled step, and its speed where images are streamed to it."""
    state, step = experiment.enter_phase(experiment.abstract_state(0), 0, previous=0)
    need, limit = step_memory(experiment, step), memory_limit(experiment.mesh)
    subject = _with_memory(subject, need, limit)
    if experiment.resident or (need is not None and need > limit):
        return subject
    return dataclasses.replace(subject, step_rate=_step_rate(experiment))


def _with_memory(subject: Subject, need: int | None, limit: int) -> Subject:
    return subject if need is None else dataclasses.replace(subject, step_bytes=need, memory_limit=limit)


def _step_rate(experiment: Experiment) -> float:
    """Images per second of training steps, without the time for which they waited for images."""
    dispatches = feed.endless(experiment.training, experiment.initial_state())
    jax.block_until_ready(next(dispatches)[0])  # the first one also allocates
    steps, seconds = 0, 0.0
    while seconds < _TIMED:
        start, waited = time.perf_counter(), experiment.training.waited
        metrics, done = next(dispatches)
        jax.block_until_ready(metrics)
        # A new epoch begins to count anew.
        pause = max(experiment.training.waited - waited, 0.0)
        steps, seconds = steps + done, seconds + max(time.perf_counter() - start - pause, 1e-6)
    return steps * experiment.config.batch_size / seconds
