"""Situations that users get into, as scripts in the folder of real data: each makes its own inputs, runs commands as a
user would, and prints what they say. What must be among it is written here."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# What was called otherwise when the scripts were written.
RENAMED = (
    ('f"imgcls_jax.{module}"', '"imgcls_jax", {"main": "train"}.get(module, module)'),
    ('"imgcls_jax.main"', '"imgcls_jax", "train"'),
    ("-m imgcls_jax.main", "-m imgcls_jax train"),
    ("-m imgcls_jax.predict", "-m imgcls_jax predict"),
    ('line.split("imgcls_jax.")', 'line.split("imgcls_jax ")'),
    ("from imgcls_jax.config import files", "from imgcls_jax.config import io as files"),
)
# Regular expressions, each of which must be found, by the number of the script.
EXPECTED = {
    "f01": [r"test .*\(12 images\)"],
    "f02": [
        r"valdiation/ : rc 2; valdiation is mentioned: True",
        r"eval/ : rc 2; eval is mentioned: True",
        r"train/ and Testing/ : rc 0; .*validation row: True",
    ],
    "f03": [r"^rc 2"],
    "f04": [r"predict dog/: rows 20 "],
    "f06": [
        r"file name: train rc 0",
        r"p.csv rows: 20",
        r"rc 2\s+error: 1 of 41 images of the folder data cannot be read",
    ],
    "f07": [r"A \(seed 1\): rc 0  B \(seed 2\): rc 2", r"is in use by process \d+ on ", r"40 lines for 40 epochs"],
    "f08": [r"result.json: None", r"best.metric = loss\n.* rc 2"],
    "f09": [
        r'the class "zcat", which the model was not trained on',
        r"trained on (\d+) of the 40 validation images(.|\n)*of which the run trained on: \1\n",
    ],
    "f11": [r"(?s)(run \d: rc 2; .*?sentence only.*?){4}"],
    "f12": [r"(?s)(-> rc 0.*){2}"],
    "f14": [r"'disabled'} rc 0", r"'true'} rc 0", r"'offline'} rc 0"],
    "f15": [
        r"data.feed=streamed +rc 0",
        r"epochs=4 +rc 0",
        r"evaluate --workdir w +-> rc 2\s+error: .*has no folder data",
        r"evaluate --workdir w --config.data.source.path=elsewhere +-> rc 0",
    ],
    "f16": [r"rc 2\s+error: there are neither validation nor test images to evaluate"],
    "f17": [r"rc 2\s+error: data/test holds 5 images but no class folders"],
    "f18": [r"(?s)(equal to libpng's pixels: True.*){3}", r"(?s)(-> rc 0.*){2}"],
    "f19": [r"-> rc 0"],
    "f20": [
        r"float.tif +UNREADABLE",
        r"rgb16.png +ok +row0 R \[0, 17, 34, 51,",
        r"reference rgb16.png .*\[0, 17, 34, 51,",
    ],
    "f21": [r"(?m)(^\w+ +ours (\[.*?\])  by the TIFF specification \2  cv2 \2\n){5}"],
    "f22": [r"brackets: rc 0", r"(?s)(report rc 0 .*){4}", r"workdir runs/a\[/b\]: rc 0"],
    "f23": [r"--overwrite would move \. aside", r"--workdir runs/x +-> rc 0"],
    "f24": [r"rc 2\n(.*\n)*?.*the disk is full; the checkpoints before it are whole", r"evaluate .*-> rc 0"],
    "f25": [r"both forms in one folder: rc 2"],
    "f26": [r"head.batch_norm, batch 1 +rc 2", r"no norm, batch 1 +rc 0", r"Mixup.* batch 1: rc 2"],
    "f27": [r"(?s)(: rc 2  \| error: model.convs\[\d\]: .*?does not fit its input.*?){8}"],
    "f28": [
        r"labels 1, 2 +rc 2",
        r"three names, two occur +rc 0",
        r"object labels +rc 2 .*not an .npz file of plain arrays",
    ],
    "f29": [
        r"in/a.png,\d,\w+,0.\d+,ok\nin/b.png,,,,\"unreadable: ",
        r"one unreadable file: rc 2",
        r"(?m)^empty: rc 2 \| error: empty holds no images",
        r"give files of this machine, not addresses",
    ],
    "f30": [r"(?s)(rc 2\s+error: .*?c\.Table\(.*?){3}", r"rc 2\s+error: own.py, line \d+: model must be one of "],
    "f31": [
        r"(?m)(^\w+ +rc 2  \| error: bad.py, line 4: .*\n){9}",
        r"--config.epochs=2.0 rc 2 \| error: .* whole number",
    ],
    "f34": [
        r"all readable: \(0, ",
        r"class folder closed: \(2, '', .*Permission denied",
        r"predict from a read-only run: \(0, ",
    ],
    "f36": [r"result.json of the run unchanged: True", r"report w --out rep +-> rc 0"],
    "f37": [r"(?m)(^PYTHONIOENCODING=.*: rc 0 \| -\n){5}", r"(?m)(.* -> rc 141 \| -\n){3}"],
    "f38": [
        r"SIGINT rc 130 .*checkpoints: \['\d",
        r"SIGTERM rc 75 .*checkpoints: \['\d",
        r"SIGHUP rc 75 .*checkpoints: \['\d",
    ],
    "f39": [
        r"grey canvas, RGB weights: rc 0",
        r"another number of classes: rc 2",
        r"a foreign key: rc 2 \| error: the checkpoint does not fit the model",
    ],
    "f41": [r'rc 2 error: best.metric is "top5", which is 100 % in every epoch where there are 3 classes'],
    "f42": [r"path='': rc 2", r"path='\$DATA': rc 2 .*variables are not replaced", r"path='data/../data': rc 0"],
    "f43": [r"(?s)no image is predicted wrong.*(cat as dog \(5\), dog as cat \(5\).*){2}"],
    "f45": [r"^rc 0 .*\(24 images\)", r"right by folder name: 2\d of 24"],
}
# These end with a mistake of their own after the command: a file that is rightly not there.
ENDS_EARLY = {"f16", "f19", "f29"}


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.parametrize("number", EXPECTED)
def test_situation(number, real_data, tmp_path):
    folder = real_data / "cases"
    if not folder.is_dir():
        pytest.skip(f"needs the scripts in {folder}")
    for path in folder.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        for old, new in RENAMED:
            text = text.replace(old, new)
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    (script,) = tmp_path.glob(f"{number}_*.py")
    done = subprocess.run(
        [sys.executable, script],
        cwd=Path(__file__).parents[1],
        env=os.environ
        | {
            "CASES_TMP": str(tmp_path),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "SQUEEZE": str(real_data / "weights" / "squeezenet1_1_fp16.npz"),
        },
        text=True,
        capture_output=True,
    )
    assert done.returncode == (number in ENDS_EARLY), done.stderr
    assert "Traceback" not in done.stdout, done.stdout
    for pattern in EXPECTED[number]:
        assert re.search(pattern, done.stdout), f"{pattern}\n\n{done.stdout}"
