"""The notebook of docs/ runs from top to bottom, and the figures of the reader's matplotlib appear in it."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"


@pytest.mark.slow
def test_quickstart(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(FOLDER / "quickstart.ipynb", as_version=4)
    for cell in notebook.cells:  # its runs go elsewhere
        cell.source = cell.source.replace("../../runs/notebook", str(tmp_path / "run"))
    backend = nbformat.v4.new_code_cell("print(plt.get_backend())")
    notebook.cells.append(backend)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()

    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2, "the curves and the predictions"
    assert "inline" in backend.outputs[0].text
    said = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "WARNING" not in said
    accuracy = float(said.partition("test accuracy: ")[2].partition("%")[0])
    assert accuracy > 97
