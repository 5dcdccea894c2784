"""The committed outputs are what the installed torch gives."""

import numpy as np
import pytest


@pytest.mark.slow
def test_golden_is_what_torch_does(reference, golden):
    pytest.importorskip("torch")
    fresh = reference["torch_outputs"]()
    assert len(fresh) > 100
    for name, value in fresh.items():
        np.testing.assert_allclose(value, golden[name], rtol=1e-6, atol=1e-7, err_msg=name)
