"""Mistaken command lines: each ends with status 2 and one sentence that says what to do, never with a traceback."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgcls_jax.cli import app, flags
from imgcls_jax.config import io

REPOSITORY = Path(__file__).parents[2]
DIGITS = "configs/digits_cnn.py"
TRAIN = ["train", "--config", DIGITS]


@pytest.fixture
def at_work(tmp_path, monkeypatch):
    """A folder with the configs, a run without checkpoints, and what is no run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "broken.py").write_text("def get_config(variant):\n    return 1 / 0\n")
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    (tmp_path / "runs" / "digits" / "config.json").write_text(json.dumps(io.document(io.load(DIGITS))))
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "config.json").write_text("{")


MISTAKES = [
    # commands
    (["trian"], "there is no command 'trian' (did you mean \"train\"?)"),
    (["fit"], "there is no command 'fit'; see imgcls --help"),
    ([""], "there is no command ''"),
    (["--config", DIGITS], "a command comes first, as in `imgcls train --config …`"),
    (["-v"], "a command comes first"),
    (["²"], "there is no command '²'"),
    (["x" * 10_000], "there is no command 'xxxx"),
    # what to train
    (["train"], "--config is missing: give a config file, such as --config configs/digits_cnn.py"),
    (["train", "--config"], "argument --config: expected one argument"),
    (["train", "--config", "configs/digit_cnn.py"], 'there is no config file configs/digit_cnn.py (did you mean "dig'),
    (["train", "--config", "configs"], "configs is a folder: --config wants a config file"),
    (["train", "--config", "photos/cat"], "photos/cat is a folder"),
    (["train", "--config", ""], "--config wants a config file"),
    (["train", "--config", "x" * 5000], "there is no config file xxx"),
    (["train", "--config", "runs/digits/config.json"], "is no config file: its name must end in .py"),
    (["train", "--config", f"{DIGITS}:big"], "the config has no variant 'big'; it has none"),
    (["train", "--config", "broken.py"], "broken.py, line 2: ZeroDivisionError: division by zero"),
    (["train", DIGITS], f"'{DIGITS}' stands without a flag: write --config {DIGITS} for a config file"),
    (["train", "photos"], "/photos has only one class folder, cat/: a classifier needs two or more"),
    (["preview", "photos"], "'photos' stands without a flag: for a folder of images write --config FILE.py"),
    (["train", "photos", "--config", DIGITS], "DATA ('photos') and --config were given"),
    (["train", "photos", "--budget", "10"], "must be a time such as 10m, 90s or 1h30m, not '10'"),
    (["train", "photos", "--budget", "10m", "--epochs", "3"], "--budget and --epochs both say how long to train"),
    (["train", ""], "DATA is empty: was it written with a variable that is not set?"),
    (["train", "photos", "--model", ""], "--model is empty: was it written with a variable that is not set?"),
    (["train", "photos", "--csv", "none.csv"], "there is no table "),
    (["train", "--size", "64"], "--size is for images without a config: give DATA"),
    (["train", "runs/digits"], "write --workdir runs/digits for the folder of a run"),
    (["train", "nothing"], 'nothing is neither a folder nor a file here, and there is no tfds set "nothing"'),
    # flags that are settings
    ([*TRAIN, "--lr", "0.1"], "--lr is a setting of the config: write --config.optim.schedule.peak=0.1"),
    ([*TRAIN, "--learning-rate=0.1"], "write --config.optim.schedule.peak=0.1"),
    ([*TRAIN, "--epochs=3"], "--epochs is a setting of the config: write --config.epochs=3"),
    ([*TRAIN, "--epochs", "3"], "write --config.epochs=3"),
    ([*TRAIN, "--batch-size", "8"], "write --config.batch_size=8"),
    ([*TRAIN, "--seed"], "write --config.seed=VALUE"),
    ([*TRAIN, "--optimizer", "Adam"], "write --config.optim.optimizer=Adam"),
    ([*TRAIN, "--weight-decay", "0"], "write --config.optim.optimizer.weight_decay=0"),
    (["train", "--lr", "0.1"], "write --config.optim.schedule.peak=0.1"),
    ([*TRAIN, "--wrkdir", "x"], 'imgcls train has no flag --wrkdir (did you mean "--workdir"?)'),
    ([*TRAIN, "--nonsense"], "imgcls train has no flag --nonsense (see imgcls train --help)"),
    ([*TRAIN, "-x"], "imgcls train has no flag -x"),
    # settings
    ([*TRAIN, "--config.=5"], "--config.=5 names no setting: write --config.KEY=VALUE"),
    ([*TRAIN, "--config."], "names no setting"),
    ([*TRAIN, "--config.epochz=3"], "the config has no setting 'epochz' (did you mean \"epochs\"?)"),
    ([*TRAIN, "--config.lr=3"], "(did you mean --config.optim.schedule.peak?)"),
    ([*TRAIN, "--config.epochs"], "--config.epochs lacks a value: write --config.epochs=VALUE"),
    ([*TRAIN, "--config.epochs", "--overwrite"], "--config.epochs lacks a value"),
    ([*TRAIN, "--config.epochs=many"], "--config.epochs must be a whole number, not 'many'"),
    ([*TRAIN, "--config.epochs=²"], "--config.epochs must be a whole number, not '²'"),
    ([*TRAIN, "--config.epochs=" + "-" * 5000 + "1"], "--config.epochs must be a whole number, not '--"),
    ([*TRAIN, "--config.epochs", "-1"], "--config.epochs must be greater than 0, not -1"),
    ([*TRAIN, "--config.epochs=100000000000"], "--config.epochs must be at most 1,000,000"),
    ([*TRAIN, "--config.seed=100000000000000000000"], "--config.seed must be at most 4,294,967,295"),
    ([*TRAIN, "--config.data.canvas.height=1000000"], "--config.data.canvas.height must be at most 16,384"),
    ([*TRAIN, "--config.name="], "name is '', but a run is kept in runs/NAME: give a short one"),
    ([*TRAIN, "--config.name=../x"], "name is '../x', but a run is kept in runs/NAME"),
    ([*TRAIN, "--config.name=" + "n" * 300], "but a run is kept in runs/NAME"),
    ([*TRAIN, "--config.optim.optimizer=adam"], '(did you mean "Adam"?)'),
    ([*TRAIN, "--config.precision=fp8"], "--config.precision must be 'fp32', 'bf16' or 'fp16', not 'fp8'"),
    ([*TRAIN, "--config.help=optimm"], "there is no setting or kind 'optimm' (did you mean \"optim\"?)"),
    # runs and weights
    (["evaluate"], "say what to work on: give --workdir RUN, the folder of a run, or --config FILE.py with --weights"),
    (["evaluate", "--weights", "x.pth"], "--weights needs --config FILE.py"),
    (["evaluate", "--workdir", "runs/digits", "--weights", "x.pth"], "--weights needs --config FILE.py"),
    (["evaluate", "--config", DIGITS], "a config alone has no trained weights: add --weights FILE|NAME"),
    (["evaluate", "--workdir", "runs/digit"], 'there is no run runs/digit (did you mean "digits"?)'),
    (["evaluate", "--workdir", "photos"], "photos is not the folder of a run: it has no config.json"),
    (["evaluate", "--workdir", "runs/damaged"], "is not a saved config: it is damaged"),
    (["evaluate", "--workdir", "x" * 5000], "there is no run xxx"),
    (["evaluate", "--workdir", "runs/digits", "--config.epochz=1"], "the config has no setting 'epochz'"),
    (["evaluate", "--workdir", "runs/digits", "--config", f"{DIGITS}:x"], "the config has no variant 'x'"),
    (["evaluate", "--workdir", "runs/digits", "--config", "configs/cifar10_cnn.py"], "is a run of another config"),
    (["evaluate", "--workdir", "runs/digits", "--views", "tencrop"], "argument --views: invalid choice: 'tencrop'"),
    (["evaluate", "runs/digits"], "write --workdir runs/digits for the folder of a run"),
    (["corruptions"], "say what to work on"),
    (["corruptions", "--config", DIGITS], "a config alone has no trained weights"),
    (
        ["corruptions", "--workdir", "runs/digits", "--limit", "none"],
        "must be a whole number of at least 1, not 'no",
    ),
    (["corruptions", "--workdir", "runs/digits", "--size", "²"], "must be a whole number of at least 8, not '²'"),
    (["predict", "photos"], "the following arguments are required: --workdir"),
    (["predict", "--workdir", "runs/digits"], "the following arguments are required: IMAGES"),
    (["predict", "--workdir", "runs/digits", "nothing.jpg"], "there is no file or folder nothing.jpg"),
    (["predict", "--workdir", "runs/digits", "photos", "--config.epochs=3"], "takes no config"),
    (["predict", "--workdir", "runs/digits", "x" * 5000], "there is no file or folder xxx"),
    (
        ["predict", "--workdir", "runs/digits", "photos", "--csv", "broken.py"],
        "argument --csv: broken.py is there, and no .csv file, so that it is not overwritten: give another name",
    ),
    (["predict", "--workdir", "runs/digits", "photos", "--jsonl", "runs/digits/config.json"], "and no .jsonl file"),
    (["predict", "--workdir", "runs/none", "photos"], "there is no run runs/none"),
    (["predict", "--workdir", "runs/digits", "photos"], "photos holds no images"),
    (["report"], "the following arguments are required: WORKDIR"),
    (["report", "nowhere"], "nowhere"),
    # before a run
    (["preview"], "--config is missing"),
    (["preview", "--config", DIGITS, "--images", "0"], "must be a whole number of at least 1, not '0'"),
    (["preview", "--config", DIGITS, "--draws", "9" * 50], "must be a whole number of at least 1"),
    (["tune"], "say first what to tune, lr, batch, search, grid or cv, and nothing was given (see imgcls tune --help)"),
    (["tune", "rl"], "say first what to tune, lr, batch, search, grid or cv, not 'rl'"),
    (["tune", "lr"], "say what to work on: give --workdir RUN, the folder of a run, or --config FILE.py"),
    (["tune", "lr", "--config", DIGITS, "--lowest", "0"], "must be a number above 0, not '0'"),
    (["tune", "lr", "--config", DIGITS, "--highest", "inf"], "must be a number above 0, not 'inf'"),
    (["tune", "lr", "--config", DIGITS, "--steps", "5"], "--steps 5 are too few"),
    (["tune", "lr", "--config", DIGITS, "--epochs", "5"], "--epochs is a setting of the config"),
    (
        ["tune", "lr", "--workdir", "runs/digits", "--config.seed=1"],
        "--config.seed=1 cannot change what",
    ),
    (["tune", "batch"], "--config is missing"),
    (["tune", "grid", "--config", DIGITS], "nothing varies: give --space 'optim.schedule.peak=1e-3,1e-2', say, or"),
    (["tune", "cv", "--config", DIGITS, "--folds", "1"], "must be a whole number of at least 2, not '1'"),
    (["tune", "search"], "--config is missing"),
    (["tune", "search", "--config", DIGITS], "--space is missing: say which setting varies, as PATH=uniform(LOW,HIGH)"),
    (
        ["tune", "search", "--config", DIGITS, "--space", "epochz=int(1,2)"],
        "no setting 'epochz' (did you mean \"epochs\"?)",
    ),
    (["tune", "search", "--config", DIGITS, "--epochs", "0"], "must be a whole number of at least 1, not '0'"),
    (["tune", "batch", "--config", DIGITS, "--seconds", "nan"], "must be a number of at least 0, not 'nan'"),
    (["ablate", "--config", DIGITS], "marks no factors"),
    (["ablate", "--config", "configs/imagenette_cnn.py", "--seeds", "0"], "must be a whole number of at least 1"),
    (["parity"], "the following arguments are required: --model"),
    (["parity", "--model", "resnet50", "--image-size", "0"], "must be a whole number of at least 1, not '0'"),
    (["parity", "--model", "resnet50", "--config.help"], "takes no config"),
    (["stats"], "say which images"),
    (["check"], "the following arguments are required: FILE.py:NAME"),
    (["check", "broken.py"], "'broken.py' is not FILE.py:NAME: name a file and a network in it"),
    (["check", "nothing.py:Net"], "there is no file nothing.py"),
    (["check", "broken.py:Net"], "broken.py has no network Net; it has none"),
    (["check", "broken.py:Net", "--size", "0"], "must be a whole number of at least 1, not '0'"),
    ([*TRAIN, "--profile", "none"], "must be a whole number of at least 1, not 'none'"),
    (["stats", "photos", "--size", "0"], "must be a whole number of at least 1, not '0'"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a)[:60] for a, _ in MISTAKES])
def test_one_sentence_and_status_2(arguments, message, at_work, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["imgcls", *arguments])
    with pytest.raises(SystemExit) as end:
        flags.run(app.main)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert message in err
    assert len(err.rstrip("\n").splitlines()) == 1
    assert len(err) < 700
    assert not any(word in err for word in ("pydantic", "absl", "Traceback", "Input should", "validation error"))


def test_what_was_typed_is_what_is_shown(monkeypatch, capsys):
    for path, name, program in (
        ("/usr/bin/imgcls", "train", "imgcls train"),
        ("/x/imgcls_jax/__main__.py", "train", "python -m imgcls_jax train"),
    ):
        monkeypatch.setattr(sys, "argv", [path, name, "--help"])
        with pytest.raises(SystemExit):
            app.main()
        assert capsys.readouterr().out.startswith(f"usage: {program} [-h]")


@pytest.mark.parametrize("arguments", [[name, "--help"] for name in app.COMMANDS] + [["tune", "lr", "--help"]])
def test_every_command_has_an_example(arguments, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        app.main(arguments)
    text = capsys.readouterr().out
    assert "Example" in text
    assert f"\n  imgcls {arguments[0]} " in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("  imgcls")) <= 80


def test_the_first_screen_fits(capsys):
    app.main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    listed = [name for line in lines if line.startswith("  ") for name in line[2:].split("  ")[0].split(", ")]
    assert listed == list(app.COMMANDS)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("imgcls t", ["train", "tune"]),
        ("imgcls evaluate --views ten", ["ten_crop"]),
        ("imgcls tune ba", ["batch"]),
        ("imgcls tune lr --hi", ["--highest"]),
        ("imgcls train --config configs/digits_cnn.py --config.optim.schedule.w", ["--config.optim.schedule.warmup_"]),
    ],
)
def test_the_tab_key(line, offered, tmp_path):
    pytest.importorskip("argcomplete")
    environment = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "offered"),
    }
    done = shell("$PYTHON -m imgcls_jax", **environment)
    assert done.stderr == ""
    found = (tmp_path / "offered").read_text().split("\n")
    assert [text for text in found if text.startswith(offered[0])]
    assert len(found) >= len(offered)
    assert not [text for text in found if not text.startswith(line.rpartition(" ")[2])]


def shell(line, **environment):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHON": sys.executable} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_first_screen_needs_neither_jax_nor_pydantic():
    done = shell("$PYTHON -X importtime -m imgcls_jax --help")
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"jax", "pydantic", "numpy", "rich"}


def test_a_closed_pipe_is_no_error():
    done = shell("$PYTHON -m imgcls_jax.main --config configs/digits_cnn.py --config.help | head -1")
    assert done.stdout.startswith("name = 'digits_cnn'")
    assert done.stderr == ""


def test_a_console_without_unicode():
    done = shell("$PYTHON -m imgcls_jax.main --config configs/digits_cnn.py --config.help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr[-500:]
    assert "0 < int <= 1,000,000" in done.stdout
    done = shell("$PYTHON -m imgcls_jax.main --config configs/×.py", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert done.stderr == "error: there is no config file configs/x.py\n"
