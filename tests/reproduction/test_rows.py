"""The table of experiments."""

import re

import pytest

from imgcls_jax.config import io as files
from imgcls_jax.errors import UserError
from imgcls_jax.training import validate
from reproduction import rows, shrink

TRAINED = [row for row in rows.ROWS if row.spec]


@pytest.fixture(autouse=True)
def _repository(monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.id)
def test_its_config_loads_and_can_be_shrunk_to_any_length(row):
    config = files.load(row.spec)
    for epochs in {1, 2, config.epochs // 2, config.epochs}:
        shrunk = shrink.to_epochs(config, epochs)
        assert shrunk.epochs == epochs
        validate.validate(shrunk, devices=1)


def test_every_experiment_of_the_reports_has_a_row():
    numbers = {re.match(r"[A-E]\d+[abq]?", row.id)[0] for row in rows.ROWS}
    assert numbers == {
        *(f"A{i}" for i in range(1, 6)),
        *(f"B{i}" for i in range(1, 4)),
        *(f"C{i}" for i in range(1, 12)), "C1q",
        "D1a", "D1b", "D2", "D3", "D4",
        "E1", "E2", "E3",
    }  # fmt: skip


def test_the_table_is_in_running_order_without_repeats():
    ids = [row.id for row in rows.ROWS]
    assert len(set(ids)) == len(ids)
    for row in rows.ROWS:
        if row.starts_from:
            assert ids.index(row.starts_from) < ids.index(row.id)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["C10", "C1"], ["C1", "C10"]),
        (["E3"], ["E3"]),
        (["D2", "D3"], ["D2", "D3"]),
        (
            ["E2"],
            [
                "E2-base",
                "E2-bn",
                "E2-dropout",
                "E2-aug",
                "E2-all",
                "E2-leaky-relu",
                "E2-sigmoid",
                "E2-narrow",
                "E2-medium",
            ],
        ),
        (["B"], ["B1", "B2", "B3", "B3-as-run"]),
        (["C6"], ["C6"]),
    ],
)
def test_selection(names, chosen):
    assert [row.id for row in rows.select(names)] == chosen


def test_selection_of_everything_and_of_nothing():
    assert rows.select([]) == list(rows.ROWS)
    with pytest.raises(UserError, match="^there is no row C12: `--list` shows all, from A1 to E3-frozen-bn$"):
        rows.select(["C1", "C12"])


def test_how_figures_read():
    figure = rows.Reported(0.5131, "test", ours="validation")
    assert (figure.text, figure.name) == ("51.31 %", "test (ours: validation)")
    figure = rows.Reported("about 70 %", "train", note="as run")
    assert (figure.text, figure.name) == ("about 70 %", "train, as run")
