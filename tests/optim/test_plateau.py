import dataclasses
import json
import math

import numpy as np
import pytest

from imgcls_jax.config import optim as c
from imgcls_jax.optim import plateau

SHAPE = c.ReduceOnPlateau(factor=0.3, patience=4, threshold=1e-2, minimum=1e-4)


@pytest.mark.parametrize(("metric", "mode"), [("loss", "min"), ("top1", "max")])
def test_equals_torch(metric, mode, reference, golden):
    schedule = c.Schedule(reference["PEAK"], dataclasses.replace(SHAPE, metric=metric))
    values = reference["plateau_metrics"]()
    state, rates = plateau.Plateau(schedule.peak), []
    for epoch, value in enumerate(values if mode == "min" else 5 - values):
        # Through JSON, as in a checkpoint.
        state = plateau.Plateau(**json.loads(json.dumps(dataclasses.asdict(state))))
        state = plateau.observe(state, schedule, float(value), epoch=epoch)
        rates.append(schedule.peak * plateau.scale(state, schedule))
    np.testing.assert_allclose(rates, golden[f"plateau/{mode}"], rtol=1e-12)
    assert len(set(rates)) > 4


def test_warmup_does_not_count():
    schedule = c.Schedule(0.1, dataclasses.replace(SHAPE, patience=0), warmup_epochs=3)
    state = plateau.Plateau(schedule.peak)
    for epoch in range(3):
        state = plateau.observe(state, schedule, 1.0 + epoch, epoch=epoch)
    assert state == plateau.Plateau(schedule.peak)
    state = plateau.observe(state, schedule, 5.0, epoch=3)
    state = plateau.observe(state, schedule, 5.0, epoch=4)
    assert plateau.scale(state, schedule) == pytest.approx(0.3)


def test_nan_from_the_start_never_becomes_the_best():
    schedule = c.Schedule(0.1, SHAPE)
    state = plateau.observe(plateau.Plateau(0.1), schedule, math.nan, epoch=0)
    assert (state.best, state.bad_epochs) == (None, 1)
