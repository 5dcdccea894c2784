"""The shared study: a trial has one worker at a time, and one that lost its worker gets another one."""

import json

import pytest

from imgcls_jax.errors import UserError
from imgcls_jax.tune.search import spaces, study
from imgcls_jax.tune.search.study import TrialState


@pytest.fixture
def join(tiny_config, tmp_path):
    """Open the study in tmp_path/search as another worker; keywords as of `open_study`."""

    def open_one(texts=("optim.schedule.peak=log(1e-4,1e-1)",), **changes):
        config = changes.pop("config", tiny_config())
        space = spaces.parse(texts, config)
        return study.open_study(tmp_path / "search", config, space, maximize=True, **changes)

    return open_one


def die(claim):
    """End a claim as the death of its process does: the lock is released, and nothing is recorded."""
    claim.__exit__()


def test_a_trial_has_one_worker_and_a_lost_one_gets_another(join):
    first, second = join(), join()
    mine = first.claim(2)
    other = second.claim(2)
    assert [mine.trial.number, other.trial.number] == [0, 1]
    assert first.claim(2) is None and second.claim(2) is None
    die(mine)
    adopted = second.claim(2)
    assert (adopted.trial.number, adopted.values, adopted.folder) == (0, mine.values, mine.folder)
    assert first.claim(2) is None
    with adopted:
        adopted.complete(0.5)
    with other:
        other.complete(0.6)
    assert [trial.value for trial in first.trials()] == [0.5, 0.6]
    assert first.claim(3).trial.number == 2


def test_a_trial_is_tried_once_more_and_then_has_failed(join):
    shared = join()
    die(shared.claim(1))
    die(shared.claim(1))
    assert shared.claim(1) is None
    (trial,) = shared.trials()
    assert trial.state == TrialState.FAIL
    assert trial.user_attrs == {"starts": 2, "problem": "its process was killed, twice"}


def test_an_interruption_is_no_failure(join):
    shared = join()
    for _ in range(5):
        with shared.claim(1) as claim:
            claim.interrupt()
    with shared.claim(1) as claim:
        assert claim.trial.number == 0
        assert not claim.fail("the disk is full")
    with shared.claim(1) as claim:
        assert claim.fail("the disk is full")


def test_a_trial_that_lost_its_worker_before_it_had_values(join):
    shared = join()
    shared.study.ask()
    claim = shared.claim(1)
    assert claim.trial.number == 0 and 1e-4 <= next(iter(claim.values.values())) <= 1e-1


def test_one_worker_draws_the_same_again_and_two_do_not_draw_alike(join, tmp_path):
    drawn = []
    for _ in range(2):
        shared = join(seed=3)
        claims = [shared.claim(4) for _ in range(4)]
        drawn.append([next(iter(claim.values.values())) for claim in claims])
        (tmp_path / "search").rename(tmp_path / f"before{len(drawn)}")
    assert drawn[0] == drawn[1]
    assert len(set(drawn[0])) == 4


def test_half_a_line_of_a_killed_writer_is_taken_away(join, tmp_path):
    claim = join().claim(3)
    with open(tmp_path / "search" / "study.journal", "a") as file:
        file.write('{"op_code":4,"wor')
    shared = join()
    assert shared.claim(3).trial.number == 1
    with claim:
        claim.complete(0.5)
    assert [trial.value for trial in join().trials()] == [0.5, None]
    lines = (tmp_path / "search" / "study.journal").read_text().splitlines()
    assert all(json.loads(line) for line in lines)


def test_another_search_in_the_same_folder_is_refused(join, tiny_config, tmp_path):
    join()
    with pytest.raises(UserError, match=r"holds a search over optim.schedule.peak=log\(0.0001,0.1\): give the same"):
        join(["optim.schedule.peak=log(1e-4,1)"])
    with pytest.raises(UserError, match="holds a search from another config: .*undo:\n  epochs: 2 → 3$"):
        join(config=tiny_config(epochs=3))
    with pytest.raises(UserError, match=r"is in .*study.journal: give it as --storage"):
        join(storage=str(tmp_path / "other.journal"))
    (tmp_path / "search" / "search.json").write_text("{}")
    with pytest.raises(UserError, match="of another version or damaged"):
        join()


def test_a_folder_that_holds_something_else_is_refused(join, tmp_path):
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds no search but thesis.tex"):
        join()


def test_a_journal_belongs_to_one_folder(join, tmp_path):
    journal = str(tmp_path / "shared.journal")
    join(storage=journal).claim(1)
    (tmp_path / "search").rename(tmp_path / "before")
    with pytest.raises(UserError, match="holds the trials of a search in another --workdir"):
        join(storage=journal)


@pytest.mark.parametrize(
    ("storage", "message"),
    [
        ("mysql://me@host/db", "--storage 'mysql'://… is not of a kind that can be used"),
        ("postgresql://", "give a file, or postgresql://USER@HOST/DATABASE"),
        ("postgresql://me:secret@localhost:1/db", "postgresql+psycopg://me:***@localhost:1/db cannot be used: "),
    ],
)  # fmt: skip
def test_a_storage_that_cannot_be_used(join, storage, message):
    with pytest.raises(UserError) as caught:
        join(storage=storage)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a\nb\n", "a", '{"a": 1}'])
def test_a_file_that_is_no_journal(join, tmp_path, text):
    (tmp_path / "notes.txt").write_text(text)
    with pytest.raises(UserError, match="or is no journal of Optuna"):
        join(storage=str(tmp_path / "notes.txt"))
    assert (tmp_path / "notes.txt").read_text() == text
