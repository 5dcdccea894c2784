"""What the comparison with other loops does without their libraries: commands, figures, lines, the table."""

import importlib
import io
import json
import sys
import tarfile
from types import SimpleNamespace

import jax
import pytest
from flax import nnx

import imgcls_jax as ic

NAMES = ("jobs", "measure", "table", "__main__")


@pytest.fixture
def peers():
    return SimpleNamespace(**{name.strip("_"): importlib.import_module(f"benchmarks.peers.{name}") for name in NAMES})


PROGRAM = '''"""Train."""

import library

# A comment.
from reporting import tell  # bench


def block(x):
    """Only of `cnn`."""
    return x


def shared(x):

    return x


def cnn(x):
    return block(shared(x))


def photographs(x):
    return shared(
        x,
    )


def main(job):
    tell(1)  # bench
    return {"cnn": cnn, "photographs": photographs}[job]
'''


def test_lines_of_other_jobs_and_of_measuring_do_not_count(peers):
    # import, shared, main: 5 lines
    assert peers.table.user_lines(PROGRAM, "cnn") == 5 + 4
    assert peers.table.user_lines(PROGRAM, "photographs") == 5 + 4
    assert peers.table.user_lines(PROGRAM.replace("block(shared(x))", "shared(x)"), "photographs") == 5 + 4 + 2


def test_every_program_has_lines_for_every_job(peers):
    lines = peers.main.lines()
    assert set(lines) == {"ours", *peers.main.PEERS}
    assert all(20 < count < 120 for counts in lines.values() for count in counts.values()), lines


@pytest.mark.parametrize("job", ["cnn", "resnet18", "photographs"])
def test_our_networks_have_as_many_parameters_as_the_jobs_say(peers, job, monkeypatch):
    monkeypatch.syspath_prepend(peers.main.PROGRAMS)
    config = ic.load_config(f"{peers.main.PROGRAMS / 'ours.py'}:{job}")
    model = nnx.eval_shape(
        lambda: config.model.build(
            num_classes=10, channels=3, image_size=config.data.image_size, dtype="float32", rngs=nnx.Rngs(0)
        )
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == peers.jobs.JOBS[job].parameters


def test_figures_are_of_the_time_after_the_first_step(peers):
    events = [
        (1.0, {"parameters": 7}),
        (5.0, {"first_step": True}),
        (15.0, {"epoch": 1, "accuracy": 0.5}),
        (25.0, {"epoch": 2, "accuracy": 0.75}),
    ]
    assert peers.measure.figures(events, images=105, batch=10) == {
        "images_per_second": 10.0,
        "first_step": 5.0,
        "accuracy": 0.75,
        "accuracies": [0.5, 0.75],
        "parameters": 7,
    }
    with pytest.raises(RuntimeError, match="did not tell"):
        peers.measure.figures(events[:2], images=105, batch=10)


def test_a_command_is_measured_with_its_children(peers, tmp_path):
    event = "print('\\n@peers ' + json.dumps(event), flush=True)"
    child = "import time; x = b'1' * 2**26; print(len(x), flush=True); time.sleep(60)"
    program = (
        "import json, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"for event in {{'parameters': 7}}, {{'first_step': True}}: {event}\n"
        f"time.sleep(1)\nevent = {{'epoch': 1, 'accuracy': 0.5}}; {event}\nchild.kill()\n"
    )
    measured = peers.measure.measure([sys.executable, "-c", program], {}, tmp_path, 100, 10)
    assert 0 < measured["images_per_second"] < 91
    assert measured["total"] > measured["first_step"] + 0.9
    if sys.platform == "linux":
        assert measured["memory"] > 2**26
    with pytest.raises(RuntimeError, match=r"ended with status 1:\n(.|\n)*no luck"):
        peers.measure.measure([sys.executable, "-c", "raise SystemExit('no luck')"], {}, tmp_path, 100, 10)


def answers(rates, memory=2**30):
    return {
        "rounds": [
            {"images_per_second": rate, "memory": memory, "first_step": 5, "total": 60, "accuracy": 0.5}
            for rate in rates
        ]
    }


def test_the_table_has_medians_notes_and_what_could_not_run(peers):
    results = {
        "cnn": {
            "ours": answers([150, 100, 200]),
            "fastai": answers([50], memory=None) | {"note": "flips only"},
            "flax": {"rounds": [], "cannot": "it reads JPEG files"},
        }
    }
    lines = peers.table.markdown(results, {"ours": {"cnn": 30}, "fastai": {"cnn": 40}}).splitlines()
    assert lines[0] == f"**{peers.jobs.JOBS['cnn'].title}**; 1–3 rounds"
    assert lines[4:] == [
        "| ours | 150 | 1,024 | 5.0 | 60.0 | 30 | 50.0 | – |",
        "| fastai | 50 | – | 5.0 | 60.0 | 40 | 50.0 | 3.00 |",
        "",
        "fastai: flips only.",
        "flax: it reads JPEG files.",
    ]


def test_a_measurement_is_kept_and_not_taken_again(peers, tmp_path, capsys):
    asked = []

    def measure(side, name, job, number, options):
        asked.append((name, side, number))
        if side == "fastai":
            raise RuntimeError("ended with status 1:\nno luck")
        return answers([100])["rounds"][0]

    arguments = ["cnn", "--peers", "keras_jax,fastai", "--json", str(tmp_path / "peers.json")]
    peers.main.main(arguments, measure)
    assert asked == [("cnn", side, 0) for side in ("ours", "keras_jax", "fastai")]
    printed = capsys.readouterr().out
    assert "| keras_jax | 100 |" in printed
    assert "fastai: ended with status 1:." in printed
    asked.clear()
    peers.main.main([*arguments, "--rounds", "2"], measure)
    assert asked == [("cnn", "fastai", 0), ("cnn", "ours", 1), ("cnn", "keras_jax", 1), ("cnn", "fastai", 1)]
    asked.clear()
    peers.main.main([*arguments, "--table"], measure)
    assert asked == []
    with pytest.raises(SystemExit):
        peers.main.main([*arguments, "--smoke"], measure)
    assert "holds cnn in other sizes: give another file by --json" in capsys.readouterr().err


def test_an_unknown_name_is_named(peers, capsys):
    for arguments, message in (
        (["mnist"], "there is no job mnist: choose from cnn, "),
        (["--peers", "caffe"], "there is no peer caffe: choose from keras_jax, "),
    ):
        with pytest.raises(SystemExit):
            peers.main.main(arguments)
        assert message in capsys.readouterr().err


def test_what_is_missing_is_said(peers, tmp_path):
    options = peers.main.Options(tmp_path, tmp_path, None, {"timm": None, "flax": tmp_path / "none.py"})
    job = peers.jobs.JOBS["cnn"]
    for side, name, message in (
        ("timm", "cnn", r"train.py of .* is in no package: give the path of a copy by --timm"),
        ("flax", "photographs", r"examples/imagenet/train.py of .* is not at .*none.py: give .* by --flax"),
        ("flax", "cnn", "it reads JPEG files, and its image size is 224 pixels"),
    ):
        with pytest.raises(peers.main.CannotRun, match=message):
            peers.main.command(side, name, job, {}, 0, options)
    with pytest.raises(peers.main.CannotRun, match="the photographs are not part of this project: give a folder"):
        peers.jobs.prepare("photographs", peers.jobs.JOBS["photographs"], tmp_path, None)


def test_our_command_trains_the_job(peers, tmp_path):
    options = peers.main.Options(tmp_path, tmp_path, None, {})
    command, _ = peers.main.command("ours", "cnn", peers.jobs.JOBS["cnn"], {"npz": "a.npz", "folder": "a"}, 3, options)
    config = ic.load_config(command[command.index("--config") + 1])
    assert config.callbacks  # which report
    assert "--config.data.source.path=a.npz" in command
    assert "--config.seed=3" in command


@pytest.mark.parametrize("packed", [False, True])
def test_photographs_come_from_a_folder_or_a_tar_file(peers, tmp_path, packed):
    given = tmp_path / "given"
    for split, count in (("train", 3), ("val", 2)):
        for name in ("a", "b"):
            (given / split / name).mkdir(parents=True)
            for i in range(count):
                (given / split / name / f"{i}.JPEG").write_bytes(f"{split}{name}{i}".encode())
    if packed:
        with tarfile.open(tmp_path / "given.tar", "w") as archive:
            for path in sorted(given.rglob("*.JPEG")):
                member = tarfile.TarInfo(f"set/{path.relative_to(given).as_posix()}")
                member.size = path.stat().st_size
                archive.addfile(member, io.BytesIO(path.read_bytes()))
        given = tmp_path / "given.tar"
    job = peers.main.replace(peers.jobs.JOBS["photographs"], train=4, validation=2)
    folder = peers.main.Path(peers.jobs.prepare("photographs", job, tmp_path / "cache", given)["folder"])
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.JPEG")}
    expected = [("train", name, i) for name in "ab" for i in range(2)] + [("val", name, 0) for name in "ab"]
    assert files == {f"{split}/{name}/{i}.JPEG": f"{split}{name}{i}" for split, name, i in expected}
    sentence = json.loads(peers.jobs.settings("photographs", job, {"folder": str(folder)}, 0))
    assert sentence["folder"] == str(folder)
