"""What a grid is made of, and the sentence of everything that it cannot be made of."""

import dataclasses

import pytest

from imgcls_jax import config as c
from imgcls_jax.errors import UserError
from imgcls_jax.tune.grid import cells

PEAK = "optim.schedule.peak"


def test_lists_and_ranges(tiny_config):
    config = tiny_config(optim=dataclasses.replace(tiny_config().optim, optimizer=c.AdamW()))
    found = cells.axes([f"{PEAK}=1e-3, 3e-3,1e-2", "optim.optimizer.weight_decay=uniform(0,0.1)"], config, points=3)
    assert [dimension.path for dimension in found] == [PEAK, "optim.optimizer.weight_decay"]
    assert list(found.values()) == [["1e-3", "3e-3", "1e-2"], [0.0, 0.05, 0.1]]
    made = cells.cells(config, found, [0])
    assert len(made) == 9 and made[1].values == {PEAK: "1e-3", "optim.optimizer.weight_decay": 0.05}
    assert made[5].config.optim.schedule.peak == 3e-3 and made[5].config.optim.optimizer.weight_decay == 0.1
    assert list(cells.axes([f"{PEAK}=log(1e-4,1)"], config).values()) == [[1e-4, 1e-3, 0.01, 0.1, 1.0]]
    assert list(cells.axes(["optim.schedule.warmup_epochs=int(0,3)"], config, 9).values()) == [[0, 1, 2, 3]]
    (only,) = cells.cells(config, cells.axes([], config), [0, 1])
    assert only.values == {} and only.config == config


@pytest.mark.parametrize(("text", "expected"), [("3", [7, 8, 9]), ("0,4, 2", [0, 4, 2]), ("1", [7])])
def test_seeds(text, expected):
    assert cells.seeds(text, 7) == expected


@pytest.mark.parametrize("text", ["", "0", "a", "1,1", "-1", "1,,2", "1.5", f"0,{2**32}"])
def test_no_seeds(text):
    with pytest.raises(UserError, match="--seeds"):
        cells.seeds(text, 0)


@pytest.mark.parametrize(
    ("texts", "points", "message"),
    [
        (["batch_size=8,16"], None, "--space batch_size cannot vary between networks of one program, where optim.sch"),
        (["optim.optimizer.momentum=0.5,0.9"], None, "search it with `imgcls tune search`"),
        (["seed=0,1"], None, "--space seed cannot vary between networks of one program, where optim.schedule.… and"),
        (["optim.schedule.pek=1,2"], None, "optim.schedule has no setting 'pek' (did you mean"),
        ([f"{PEAK}=1e-3"], None, f"--space {PEAK}: a choice is of two values or more, all different, not ('1e-3')"),
        ([f"{PEAK}=0,1"], None, f"--space {PEAK} must be greater than 0"),
        ([f"{PEAK}=1,2"], 4, "--points counts the values of a range, as of PATH=log(LOW,HIGH), and no --space is one"),
        ([f"{PEAK}=1,2", f"{PEAK}=1,3"], None, f"--space {PEAK} is given twice"),
    ],
)
def test_mistakes_of_the_space(tiny_config, texts, points, message):
    with pytest.raises(UserError) as caught:
        cells.axes(texts, tiny_config(), points)
    assert message in str(caught.value)


def test_what_a_run_does_by_itself_is_refused(tiny_config):
    for changes, message in (
        (
            {"recover": c.Recover()},
            "recover goes back to a checkpoint of one run, .* give --config.recover=None, or use",
        ),
        ({"best": c.Best("other/top1")}, "best.metric names an evaluator, .* --config.best.metric=top1"),
    ):
        with pytest.raises(UserError, match=message):
            cells.cells(tiny_config(**changes), {}, [0])
    with pytest.raises(UserError, match="more than 10,000 networks: give fewer values or seeds"):
        cells.cells(tiny_config(), cells.axes([f"{PEAK}=log(1e-4,1)"], tiny_config(), 1000), range(11))
    axes = cells.axes(["optim.schedule.shape=choice(Constant,Cosine)"], tiny_config())
    free = dataclasses.replace(tiny_config().optim, optimizer=c.ScheduleFreeAdamW())
    with pytest.raises(
        UserError, match=r"^--space optim.schedule.shape=Cosine: .*ScheduleFreeAdamW replaces the sched"
    ):
        cells.cells(tiny_config(optim=free), axes, [0])
