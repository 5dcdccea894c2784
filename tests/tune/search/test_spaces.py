"""Spaces: what is drawn from them, and the sentence of everything that is none."""

import math

import numpy as np
import optuna
import pytest
import scipy.stats

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.tune.search import spaces

PEAK = "optim.schedule.peak"


@pytest.mark.parametrize(
    ("text", "transform", "reference"),
    [
        (f"{PEAK}=uniform(0.5,2)", float, scipy.stats.uniform(0.5, 1.5)),
        (f"{PEAK}=log(1e-4,1e-1)", math.log, scipy.stats.uniform(math.log(1e-4), math.log(1e3))),
    ],
)
def test_real_numbers_are_drawn_evenly(tiny_config, text, transform, reference):
    (dimension,) = spaces.parse([text], tiny_config())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [transform(dimension.suggest(study.ask())) for _ in range(400)]
    assert scipy.stats.kstest(drawn, reference.cdf).pvalue > 0.01


def test_whole_numbers_and_choices_are_drawn_evenly(tiny_config):
    texts = ["epochs=int(2,5)", "batch_size=logint(1,64)", "precision=choice(fp32,bf16)"]
    space = spaces.parse(texts, tiny_config())
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [[dimension.suggest(trial) for dimension in space] for trial in (study.ask() for _ in range(400))]
    epochs, batches, precisions = zip(*drawn, strict=True)
    assert scipy.stats.chisquare(np.unique(epochs, return_counts=True)[1]).pvalue > 0.01
    assert set(epochs) == {2, 3, 4, 5} and set(precisions) == {"fp32", "bf16"}
    assert 0.35 < np.mean(np.array(batches) <= 8) < 0.7  # half of the logarithms from 1 to 64
    assert all(isinstance(value, int) for value in epochs + batches)


def test_values_are_put_as_a_command_line_puts_them(tiny_config):
    texts = [
        "optim.optimizer.kind=choice(SGD,AdamW)",
        'data.mean=choice([0.5, 0.5, 0.5],"[0.4, 0.4, 0.4]")',
        "name=choice(1,a)",
        "max_steps=choice(None,5)",
    ]
    space = spaces.parse(texts[:1] + texts[2:], tiny_config())
    config = spaces.put(tiny_config(), dict(zip(space, ["AdamW", "1", "5"], strict=True)))
    assert isinstance(config.optim.optimizer, c.AdamW)
    assert (config.name, config.max_steps) == ("1", 5)
    assert spaces.put(tiny_config(), {space[2]: "None"}).max_steps is None
    with pytest.raises(UserError, match="data.mean"):  # a quoted list is text
        spaces.parse(texts[1:2], tiny_config())
    (means,) = spaces.parse(["data.mean=choice([0.5,0.5,0.5], [0.4,0.4,0.4])"], tiny_config())
    assert spaces.put(tiny_config(), {means: means.choices[1]}).data.mean == (0.4, 0.4, 0.4)


def test_a_dimension_is_written_as_it_is_read(tiny_config):
    texts = [f"{PEAK}=log(0.0001,0.1)", "epochs=int(2,5)", "precision=choice(fp32,bf16)"]
    assert [str(dimension) for dimension in spaces.parse(texts, tiny_config())] == texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.schedule.pek=log(1,2)", "--space optim.schedule.pek: optim.schedule has no setting 'pek' (did you"),
        ("lr=log(1e-4,1)", "the config has no setting 'lr' (did you mean --space optim.schedule.peak?)"),
        ("epochs", "--space 'epochs' is no dimension: write PATH=uniform(LOW,HIGH)"),
        ("epochs=5", "--space 'epochs=5' is no dimension"),
        ("epochs=itn(1,2)", "--space epochs: there is no 'itn' (did you mean \"int\"?): write epochs=uniform("),
        ("epochs=int(1,2.5)", "--space epochs: int takes two whole numbers, not (1, 2.5)"),
        ("epochs=int(1)", "--space epochs: int takes two whole numbers, not (1)"),
        ("epochs=int(0,3)", "--space epochs must be greater than 0"),
        ("epochs=uniform(1,3.5)", "--space epochs must be a whole number"),
        (f"{PEAK}=log(0,1)", f"--space {PEAK}: log must begin above 0, not at 0"),
        (f"{PEAK}=uniform(1,1)", f"--space {PEAK}: uniform(1, 1) must go from a finite number to a larger one"),
        (f"{PEAK}=uniform(0,inf)", "must go from a finite number to a larger one"),
        (f"{PEAK}=log(a,b)", "log takes two numbers, not (a, b)"),
        ("precision=choice(fp32)", "--space precision: a choice is of two values or more, all different"),
        ("precision=choice(fp32,)", "a choice is of two values or more"),
        ("precision=choice(fp32,fp64)", "--space precision must be"),
        ("optim.optimizer=choice(SGD,Adamm)", "Adamm"),
    ],
)  # fmt: skip
def test_mistakes(tiny_config, text, message):
    with pytest.raises(UserError) as caught:
        spaces.parse([text], tiny_config())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_space_and_one_that_is_given_twice(tiny_config):
    with pytest.raises(UserError, match="^--space is missing"):
        spaces.parse([], tiny_config())
    with pytest.raises(UserError, match="^--space epochs is given twice$"):
        spaces.parse(["epochs=int(1,2)", "epochs=int(1,3)"], tiny_config())
