"""docs/tour.ipynb, executed from top to bottom as a reader would."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "tour.ipynb"


def test_the_notebook_runs_from_top_to_bottom() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    # The first cell that raises ends it with that cell and its error.
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = [output.text for cell in cells for output in cell.outputs if output.output_type == "stream"]
    pictures = [o for cell in cells for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    assert any("resnet20: " in text and "plain20: " in text for text in texts)
    assert any("cifar10-resnet20-pytorch on " in text for text in texts)
