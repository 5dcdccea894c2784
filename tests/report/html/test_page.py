"""The page as a whole: its content, its figures, and that nothing in it can do harm."""

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
from html_document import Document
from sklearn.metrics import confusion_matrix, precision_score

from imgcls_jax.config import io
from imgcls_jax.config.tree import leaves, to_tree
from imgcls_jax.errors import UserError
from imgcls_jax.evaluation import figures, per_class
from imgcls_jax.evaluation import predictions as keep
from imgcls_jax.report.html import page

pytestmark = pytest.mark.slow  # a training, and networks compiled for maps and features


@pytest.fixture(scope="module")
def text(written):
    return written.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def document(text):
    return Document(text)


@pytest.fixture(scope="module")
def made(run):
    return keep.load(keep.path_of(run[0], "test"))


def test_it_is_one_whole_page_of_less_than_five_megabytes(written, text, document):
    assert document.faults == []
    assert text.startswith("<!doctype html>")
    assert written.stat().st_size < 5_000_000
    ids = [e["attributes"]["id"] for e in document.elements if "id" in e["attributes"]]
    assert len(ids) == len(set(ids))
    assert {e["attributes"]["href"][1:] for e in document.all("a")} <= set(ids)
    assert [e["text"] for e in document.elements if e["attributes"].get("class") == "missing"] == []


def test_names_of_classes_do_no_harm(document, text, made):
    scripts = document.all("script")
    assert [e["attributes"].get("type") for e in scripts] == ["application/json", None]
    assert not any("bold" in e["text"] for e in document.all("b"))
    assert "bold" not in scripts[1]["text"]
    assert json.loads(scripts[0]["text"])["names"][:3] == list(made.class_names)
    for name in made.class_names:
        assert any(e["text"] == name for e in document.all("th", within="run0-classes"))
        assert any(name in e["attributes"].get("aria-label", "") for e in document.all("td", within="run0-matrix"))
    assert "<b>bold" not in text


def test_it_asks_for_nothing_and_admits_its_own_style_and_script_alone(document):
    for element in document.elements:
        for name, value in element["attributes"].items():
            assert not name.startswith("on")
            assert name not in ("style", "srcset", "action")
            if name in ("src", "href"):
                assert value.startswith(("#", "data:"))
    assert not any(e["name"] in ("iframe", "object", "embed", "form", "base") for e in document.elements)
    (style,) = document.all("style")
    assert not re.search(r"url\(|@import", style["text"])
    (policy,) = (
        e["attributes"]["content"]
        for e in document.all("meta")
        if e["attributes"].get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    script = document.all("script")[-1]
    for kind, element in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(element["text"].encode()).digest()).decode()
        assert rules.pop(kind) == f"'sha256-{digest}'"
    nothing = "'none'"
    assert rules == {"default-src": nothing, "img-src": "data:", "base-uri": nothing, "form-action": nothing}


def test_figures_are_those_of_the_record(document, run, made):
    expected = figures.compute(made)
    rows = {row[0]: row[1:] for row in document.rows("run0-figures")}
    for name, title in figures.TITLES.items():
        one = expected["overall"][name]
        assert rows[title] == [figures.shown(name, one["value"]), figures.interval(name, one["low"], one["high"])]
    headline = " ".join(" ".join(e["text"].split()) for e in document.all("dl"))
    assert f"test accuracy{100 * run[1]['test']['top1']:.2f} %" in headline
    assert f"validation accuracy{100 * run[1]['validation']['top1']:.2f} %" in headline
    epochs = document.rows("run0-curves")
    assert len(epochs) == 1 + len(run[1]["history"])
    for cells, record in zip(epochs[1:], run[1]["history"], strict=True):
        assert cells[1] == f"{record['train']['loss']:.4f}"
        assert f"{100 * record['validation']['top1']:.2f} %" in cells


def test_the_matrix_and_the_classes_are_sklearns(document, made):
    counts = confusion_matrix(made.labels, made.predicted, labels=range(3))
    rows = document.rows("run0-matrix")[1:4]
    assert [[int(cell or 0) for cell in row[1:4]] for row in rows] == counts.tolist()
    precision = precision_score(made.labels, made.predicted, labels=range(3), average=None, zero_division=0)
    for cells, found, share in zip(document.rows("run0-classes")[1:], per_class.rows(made), precision, strict=True):
        assert cells[0] == found.class_name
        low, high = 100 * found.recall_low, 100 * found.recall_high
        assert cells[2] == f"{100 * found.recall:.1f} {low:.1f} to {high:.1f}"
        assert cells[4].startswith(f"{100 * share:.1f} ")


def test_behind_each_cell_are_its_images(document, made):
    data = json.loads(document.all("script")[0]["text"])
    for row in range(3):
        for column in range(3):
            names = {made.names[i] for i in np.flatnonzero((made.labels == row) & (made.predicted == column)).tolist()}
            shown = [data["images"][number][1] for number in data["cells"].get(f"{row},{column}", [])]
            assert set(shown) <= names
            assert len(shown) == min(len(names), 8 if row == column else 24)
    assert all(image[0].startswith("data:image/") for image in data["images"])


def test_every_setting_and_the_environment_are_there(document, run):
    shown = {row[0] for row in document.rows("settings")}
    assert {path for path, _ in leaves(to_tree(io.restore(run[0] / "config.json")))} <= shown
    environment = {row[0]: row[1] for row in document.rows("environment")}
    (start,) = json.loads((run[0] / "environment.json").read_text())
    assert environment["python"] == start["python"]
    assert environment["package jax"] == start["packages"]["jax"]


def test_top_losses_have_maps_and_the_duplicate_is_found(document, made):
    images = document.all("img", within="run0-losses")
    assert len(images) == 2 * min(24, len(made))
    assert all(e["attributes"]["alt"] for e in document.all("img"))
    (group,) = document.all("li", within="run0-duplicates")
    assert "in several splits" in group["text"]
    hints = [e["text"] for e in document.all("p", within="run0-duplicates")]
    assert any("images below 16 pixels are compared byte for byte only" in hint for hint in hints)
    assert "with different labels" in group["text"]
    assert any("HorizontalFlip begins in epoch 2" in e["text"] for e in document.all("li", within="run0-curves"))


def test_what_is_missing_is_said_and_two_runs_are_compared(run, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(run[0], bare, ignore=shutil.ignore_patterns("predictions*", "c*.json", "environment.json"))
    saved = json.loads((run[0] / "config.json").read_text())
    saved["config"]["name"], saved["config"]["seed"] = "<i>bare", 7
    saved["config"]["data"]["source"]["path"] = str(tmp_path / "gone.npz")
    (bare / "config.json").write_text(json.dumps(saved))
    page.write([run[0], bare], tmp_path / "two.html")
    document = Document((tmp_path / "two.html").read_text())
    assert document.faults == []
    missing = [e["text"] for e in document.elements if e["attributes"].get("class") == "missing"]
    for sentence in (
        f"No difference between tiny and <i>bare: there is no file {bare}/predictions_test.npz",
        "Figures, Confusion, Classes, Top losses, Confidence, Map of features, Label candidates: there is no file "
        f"{bare}/predictions_test.npz: imgcls evaluate --workdir {bare} writes it.",
        f"Corruptions: not measured: imgcls corruptions --workdir {bare} does it",
        "The data are not there, so these are the sizes that the run has noted: there is no file",
    ):
        assert any(text.startswith(sentence) for text in missing), (sentence, missing)
    sizes = {row[0]: row[1] for row in document.rows("run1-data")}
    assert sizes["train"] == "72"
    differing = [row for row in document.rows("settings") if row[0] in ("name", "seed")]
    assert differing[1:3] == [["seed", "0", "7"], *differing[2:3]]
    marked = [e for e in document.all("tr", within="settings") if e["attributes"].get("class") == "differs"]
    assert len(marked) == 2 * 3  # among the differences, and among all


def test_without_predictions_by_wish(run):
    runs = page.record.read_all([run[0]])
    document = Document(page.page(runs, split="none"))
    missing = [e["text"] for e in document.elements if e["attributes"].get("class") == "missing"]
    assert any(text.endswith(": not wanted (--confusion none).") for text in missing)
    assert document.all("svg", within="run0-curves")


def test_a_page_that_would_be_too_large_is_refused(run, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "LIMIT", 10_000)
    monkeypatch.setattr(page, "page", lambda runs, *, split: "x" * 20_000)
    with pytest.raises(UserError, match=r"^the page on 1 runs would have .* report fewer runs at once$"):
        page.write([run[0]], tmp_path / "large.html")
    assert not (tmp_path / "large.html").exists()
