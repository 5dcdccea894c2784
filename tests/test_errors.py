"""The hint at a misspelled name."""

import time

import pytest

from imgcls_jax.errors import did_you_mean

NAMES = ["epochs", "seed", "batch_size", "eval_batch_size", "cifar10", "y_validation"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("epoch", "epochs"),
        ("epohcs", "epochs"),
        ("Epochs", "epochs"),
        ("batch-size", "batch_size"),
        ("batchsize", "batch_size"),
        ("cifr10", "cifar10"),
        ("y_valid", "y_validation"),
        ("sede", "seed"),
        ("momentum", None),
        ("ba", None),
        ("lr", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_only_a_small_edit_distance_counts(name, meant):
    assert did_you_mean(name, NAMES) == (f' (did you mean "{meant}"?)' if meant else "")


def test_the_beginning_of_several_names_says_nothing():
    assert did_you_mean("res", ["resnet50", "resnet101"]) == ""


def test_the_nearest_of_several_is_named():
    assert did_you_mean("resnet51", ["resnet152", "resnet50", "resnet101"]) == ' (did you mean "resnet50"?)'


def test_many_names_take_no_time():
    start = time.perf_counter()
    did_you_mean("unknown_name_of_a_class", (f"class_of_some_name_{i}" for i in range(2000)))
    assert time.perf_counter() - start < 5
