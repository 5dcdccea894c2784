import dataclasses
import math

import numpy as np
import pytest

from imgcls_jax import config as c

SHAPE = c.ReduceOnPlateau(factor=0.3, patience=4, threshold=1e-2, minimum=1e-4)
DIRECTIONS = {"loss": False, "top1": True}


def factor(shape: c.Shape, values: list[float], *, peak: float = 0.1, warmup: int = 0) -> float:
    """On the rate after epochs whose validation gave `values`."""
    history = [{"epoch": epoch, "validation": {shape.metric: value}} for epoch, value in enumerate(values)]
    schedule = c.Schedule(peak, shape, warmup_epochs=warmup)
    return shape.adapt(history, schedule=schedule, higher_is_better=DIRECTIONS)


@pytest.mark.parametrize(("metric", "mode"), [("loss", "min"), ("top1", "max")])
def test_equals_torch(metric, mode, reference, golden):
    shape, peak = dataclasses.replace(SHAPE, metric=metric), reference["PEAK"]
    values = reference["plateau_metrics"]()
    values = (values if mode == "min" else 5 - values).tolist()
    rates = [peak * factor(shape, values[:count], peak=peak) for count in range(1, len(values) + 1)]
    np.testing.assert_allclose(rates, golden[f"plateau/{mode}"], rtol=1e-12)
    assert len(set(rates)) > 4


def test_warmup_does_not_count():
    shape = dataclasses.replace(SHAPE, patience=0)
    assert factor(shape, [1.0, 2.0, 3.0], warmup=3) == 1
    assert factor(shape, [1.0, 2.0, 3.0, 5.0], warmup=3) == 1
    assert factor(shape, [1.0, 2.0, 3.0, 5.0, 5.0], warmup=3) == pytest.approx(0.3)


def test_nan_from_the_start_never_becomes_the_best():
    shape = dataclasses.replace(SHAPE, patience=1)
    assert factor(shape, [math.nan]) == 1
    assert factor(shape, [math.nan, math.nan]) == pytest.approx(0.3)
    assert (
        factor(shape, [math.nan, 7.0, 7.0]) == 1
    )  # 7 is the best so far, and 7 again the first epoch without progress
