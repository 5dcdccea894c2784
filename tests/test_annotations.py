"""Annotations are enforced while the tests run: with axes and without, of functions, methods and dataclasses."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from imgcls_jax.display import pictures
from imgcls_jax.display.console import Speed
from imgcls_jax.training.progress import Progress


@pytest.mark.parametrize(
    "call",
    [
        lambda: pictures.factor("8"),
        lambda: pictures.shown(np.zeros((2, 2), np.uint8)),  # an axis is missing
        lambda: pictures.shown(np.zeros((2, 2, 3), np.float32)),
        lambda: Speed(batch_size=1, first_step="1"),
        lambda: Progress(epoch="1"),
    ],
)
def test_a_wrong_type_is_refused(call):
    with pytest.raises(TypeCheckError):
        call()
