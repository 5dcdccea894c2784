"""The counts of docs/models.md against those that torchvision publishes."""

import pytest

from benchmarks.models import multiply_adds, num_params
from imgcls_jax.models import architectures


# torchvision's `_ops` (10⁹) and `num_params` in the metadata of its weights.
@pytest.mark.parametrize(
    ("name", "giga", "params"),
    [
        ("resnet18", 1.814, 11_689_512),
        pytest.param("resnet50", 4.089, 25_557_032, marks=pytest.mark.slow),
        pytest.param("resnext50_32x4d", 4.23, 25_028_904, marks=pytest.mark.slow),
        ("squeezenet1_1", 0.349, 1_235_496),
    ],
)
def test_counts_are_those_of_torchvision(name, giga, params):
    assert round(multiply_adds(architectures()[name], 224, 1000) / 1e9, 3) == giga
    assert num_params(architectures()[name], 224, 1000) == params
